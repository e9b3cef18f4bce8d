"""From image tokens back to the latent that gives them: the affine inference form of the backbone, inverted.

In its inference form the backbone adds one constant to the latent and is then a single linear layer (see
``Backbone.mixer_constant``). A target in token space is therefore a target for the ridge layer, by the pseudo-inverse
of that layer. Directions of the latent that hardly change a token are left out: their targets would be large and of
no consequence. What is kept is every singular value above a thousandth of the largest.

Knows nothing of betas. Letters: K images, X numbers of an image's tokens, H hidden, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2
from mindsight.errors import ModelMismatch

_CUTOFF = 1e-3  # of the largest singular value
_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class PullBack:
    """The truncated pseudo-inverse of one model's backbone.

    basis_HR : directions of the latent that are kept
    scale_R : squared singular values along them
    shift : constant that the mixer blocks add to the latent
    """

    model: MindEye2
    basis_HR: Tensor
    scale_R: Tensor
    shift: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: MindEye2, cutoff: float = _CUTOFF) -> PullBack:
        """One pass over ``backbone_linear``, in blocks of rows."""
        blocks = torch.split(model.backbone.backbone_linear.weight.detach(), _ROWS)
        gram_HH = torch.stack([(block.double().T @ block.double()) for block in blocks]).sum(0)
        values, vectors = torch.linalg.eigh(gram_HH)
        kept = values > cutoff**2 * values[-1]
        return cls(model, vectors[:, kept], values[kept], float(model.backbone.mixer_constant()))

    @property
    def rank(self) -> int:
        return len(self.scale_R)

    @torch.no_grad()
    def latents(self, tokens_KX: Tensor) -> Tensor:
        """(K, H) float32 of the shortest latents whose tokens are nearest to these.

        Raises ModelMismatch (``pool.query_shape``) for tokens of another encoder.
        """
        linear = self.model.backbone.backbone_linear
        if tokens_KX.shape[1] != linear.weight.shape[0]:
            raise ModelMismatch(
                f"expected tokens of the encoder that the backbone was trained towards, {linear.weight.shape[0]}"
                f" numbers an image, got {tokens_KX.shape[1]}: build the pool with that encoder",
                code="pool.query_shape",
            )
        along_KH = torch.zeros(len(tokens_KX), linear.weight.shape[1], dtype=torch.float64)
        for start in range(0, linear.weight.shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            along_KH += (tokens_KX[:, rows].double() - linear.bias[rows].double()) @ linear.weight[rows].double()
        return (((along_KH @ self.basis_HR) / self.scale_R) @ self.basis_HR.T - self.shift).float()
