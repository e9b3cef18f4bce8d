"""The losses of MindEye2 on one part of a batch (Scotti et al. 2024): 30 prior + contrast + 0.5 (blur + 0.1 maps).

Where the reference's code slips, this one does what its paper describes; ``docs/pretraining.md`` lists where. Knows
nothing of optimisers or of where trials come from. Letters: B trials, H hidden, N tokens, D channels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.decoders.mindeye2 import MindEye2, losses
from mindsight.decoders.mindeye2.schedule import TIMESTEPS
from training.pretraining.batches import Part

PRIOR_WEIGHT, LOWLEVEL_WEIGHT, MAPS_WEIGHT = 30.0, 0.5, 0.1
MIXING_TEMPERATURE, MIXING_CONCENTRATION, MAPS_TEMPERATURE = 0.006, 0.15, 0.2
DROPPED_CONDITIONS = 0.2


class Mixing(NamedTuple):
    """BiMixCo's draws: each trial keeps its own share of itself, and takes the rest of its partner ``perm_B``."""

    perm_B: Tensor
    share_B: Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """All that is random in the losses of a part, dropout aside.

    mixing : None after the mixed steps
    t_B : noise level of the prior's sample; noise_BND : its noise
    keep_brain_B, keep_image_B : False where the prior sees the null tokens instead
    """

    mixing: Mixing | None
    t_B: Tensor
    noise_BND: Tensor
    keep_brain_B: Tensor
    keep_image_B: Tensor

    @classmethod
    def of(cls, part: Part, seed: int, mixed: bool, device: str) -> Draws:
        """What follows from seed and part. Partners are of one subject, whose voxels are mixed."""
        rng = np.random.default_rng([seed, part.number, 53])
        n, on = len(part.images), torch.Generator(device)
        t_B = torch.from_numpy(rng.integers(0, TIMESTEPS, n))
        keep_brain_B, keep_image_B = (torch.from_numpy(rng.random(n) >= DROPPED_CONDITIONS) for _ in range(2))
        # a card draws its own noise: the host would take as long for it as the card for the whole step
        on.manual_seed(int(rng.integers(1 << 32)))
        noise = torch.randn(part.tokens_BND.shape, generator=on, device=device)
        mixing = draw_mixing([len(betas) for betas in part.betas], rng) if mixed else None
        if mixing is not None:
            mixing = Mixing(*(each.to(device) for each in mixing))
        t_B, keep_brain_B, keep_image_B = (each.to(device) for each in (t_B, keep_brain_B, keep_image_B))
        return cls(mixing, t_B, noise, keep_brain_B, keep_image_B)


def draw_mixing(sizes: list[int], rng: np.random.Generator) -> Mixing:
    """Half of the trials are mixed, with a share from Beta(0.15, 0.15), each with one of the same subject.

    A trial whose partner is itself has share 0, by which ``losses.bimixco`` gives it itself as its whole target: the
    reference leaves such a trial without a target.
    """
    first = np.cumsum([0, *sizes[:-1]])
    perm_B = np.concatenate([start + rng.permutation(n) for start, n in zip(first, sizes, strict=True)])
    total = len(perm_B)
    share_B = np.where(rng.random(total) < 0.5, rng.beta(MIXING_CONCENTRATION, MIXING_CONCENTRATION, total), 1.0)
    share_B[perm_B == np.arange(total)] = 0.0
    return Mixing(torch.from_numpy(perm_B), torch.from_numpy(share_B.astype(np.float32)))


def mixed_latent(model: MindEye2, latent_BH: Tensor) -> Tensor:
    """The latent behind the mixer blocks, of which only ``mixer_blocks2`` has any effect, and only through a constant
    with dropout (``Backbone``): the others are neither computed nor trained.
    """
    alive_BH1 = latent_BH.detach()[..., None]
    for block in cast("list[nn.Module]", model.backbone.mixer_blocks2):
        latent_BH = latent_BH + block(alive_BH1)[..., 0]
    return latent_BH


def part_losses(model: MindEye2, part: Part, draws: Draws, temperature: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """Each loss by name, unweighted, float32, and their sum with the weights as ``loss``.

    temperature : of SoftCLIP; unused while trials are mixed
    dtype : in which networks compute; losses are float32
    """
    device = part.tokens_BND.device.type
    mixing = draws.mixing
    with autocast(device, dtype):
        latents = [model.ridge(betas, i) for i, betas in enumerate(part.betas)]
        latent_BH = torch.cat(latents).float()
    if mixing is not None:  # the same as mixing betas: ridge layers are affine, and shares sum to one
        latent_BH = losses.mix(latent_BH, mixing.perm_B, mixing.share_B)
    with autocast(device, dtype):
        latent_BH = mixed_latent(model, latent_BH)
        backbone_BND = model.backbone.tokens(latent_BH)
        retrieval_BND = model.backbone.clip_proj(backbone_BND)
    found = {"contrast": contrast(retrieval_BND.float(), part.tokens_BND, mixing, temperature)}
    total = found["contrast"]
    if model.prior is not None:
        with autocast(device, dtype):
            # its targets are not mixed, as in the reference
            found["prior"] = model.prior.loss(
                part.tokens_BND, backbone_BND, draws.t_B, draws.noise_BND, draws.keep_brain_B, draws.keep_image_B
            )
        total = total + PRIOR_WEIGHT * found["prior"]
    if model.layout.lowlevel:
        found["blur"], found["maps"] = _lowlevel(model, latent_BH, part, mixing, dtype)
        total = total + LOWLEVEL_WEIGHT * (found["blur"] + MAPS_WEIGHT * found["maps"])
    return {**found, "loss": total}


def autocast(device: str, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Matrix products in ``dtype``; sums, norms and logarithms stay in float32."""
    if dtype == torch.float32:
        return nullcontext()
    cast_as: AbstractContextManager[object] = torch.autocast(device, dtype)
    return cast_as


def contrast(retrieval_BND: Tensor, target_BND: Tensor, mixing: Mixing | None, temperature: float) -> Tensor:
    """BiMixCo of trials that were mixed, SoftCLIP of others, over all tokens of a trial."""
    found, sought = losses.unit_rows(retrieval_BND), losses.unit_rows(target_BND)
    if mixing is None:
        return losses.soft_clip(found, sought, temperature)
    return losses.bimixco(found, sought, MIXING_TEMPERATURE, mixing.perm_B, mixing.share_B)


def _lowlevel(
    model: MindEye2, latent_BH: Tensor, part: Part, mixing: Mixing | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The blurry image's error, its target mixed as the trial is; and the contrast of maps with the teacher's."""
    assert part.lowlevel is not None
    target, teacher_BPC, augmented_BPC = part.lowlevel
    with autocast(part.tokens_BND.device.type, dtype):
        blurred, student_BPC = model.backbone.lowlevel_both(latent_BH)
    if mixing is not None:
        target = losses.mix(target, mixing.perm_B, mixing.share_B)
    rows = [F.normalize(each.float().flatten(0, 1), dim=-1) for each in (student_BPC, teacher_BPC, augmented_BPC)]
    return F.l1_loss(blurred.float(), target), losses.soft_cont(rows[0], rows[1], rows[2], MAPS_TEMPERATURE)
