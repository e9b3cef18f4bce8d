"""The contrastive losses and the mixing of MindEye2's training recipe (Scotti et al. 2023, 2024).

Knows nothing of networks. All take rows that are already normalised to unit length, as the reference does.

Axes: B batch, D flattened tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bimixco(predicted_BD: Tensor, target_BD: Tensor, temperature: float, perm_B: Tensor, betas_B: Tensor) -> Tensor:
    """Bidirectional MixCo: row i was mixed as ``betas · i + (1 - betas) · perm[i]`` and should find both.

    ``betas_B`` is 1 if a sample was not mixed. Where ``perm[i] == i`` the target is ``1 - betas`` (the reference
    writes it last), so an unmixed sample mapped to itself has no target.
    """
    logits_BB = predicted_BD @ target_BD.T / temperature
    share_BB = torch.diag(betas_B).index_put((torch.arange(len(perm_B), device=perm_B.device), perm_B), 1 - betas_B)
    return (_cross_entropy(logits_BB, share_BB) + _cross_entropy(logits_BB.T, share_BB.T)) / 2


def soft_clip(predicted_BD: Tensor, target_BD: Tensor, temperature: float) -> Tensor:
    """Contrastive loss whose labels are the targets' similarities among themselves, the same in both directions."""
    logits_BB = predicted_BD @ target_BD.T / temperature
    share_BB = (target_BD @ target_BD.T / temperature).softmax(-1)
    return (_cross_entropy(logits_BB, share_BB) + _cross_entropy(logits_BB.T, share_BB)) / 2


def soft_cont(student_BD: Tensor, teacher_BD: Tensor, augmented_BD: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of the low-level head: labels are the teacher's similarities of images to augmented ones."""
    logits_BB = student_BD @ augmented_BD.T / temperature
    teacher_BB = teacher_BD @ augmented_BD.T / temperature
    return (
        _cross_entropy(logits_BB, teacher_BB.softmax(-1)) + _cross_entropy(logits_BB.T, teacher_BB.T.softmax(-1))
    ) / 2


def mix(rows_BX: Tensor, perm_B: Tensor, betas_B: Tensor) -> Tensor:
    """``betas · row + (1 - betas) · permuted row``, along the first axis."""
    betas = betas_B.view(-1, *[1] * (rows_BX.ndim - 1))
    return betas * rows_BX + (1 - betas) * rows_BX[perm_B]


def unit_rows(tokens_BND: Tensor) -> Tensor:
    """All tokens of a row flattened (B, N·D) and scaled to unit length: the form that losses and retrieval compare."""
    return F.normalize(tokens_BND.flatten(1), dim=-1)


def temperatures(epochs: int) -> Tensor:
    """SoftCLIP's temperature per epoch: half a cosine from 0.004 up to 0.0075."""
    done = torch.linspace(0, 1, epochs, dtype=torch.float64)
    return (0.0075 + (0.004 - 0.0075) * (1 + torch.cos(torch.pi * done)) / 2).float()


def _cross_entropy(logits_BB: Tensor, share_BB: Tensor) -> Tensor:
    return -(logits_BB.log_softmax(-1) * share_BB).sum(-1).mean()
