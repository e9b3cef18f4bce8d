"""The loss of latent consistency distillation (Luo et al. 2023, arXiv 2310.04378), on image tokens in place of text.

A consistency function gives the end of the sampling equation's solution through any of its points at once. The student
learns to give the same at a noisy latent and at the point that the guided teacher's solver reaches from there, one long
step nearer to the image; where no noise is left, the latent itself is the end.

Two choices differ from the paper's. The solver takes 40 steps over the schedule, not 50, so that the timesteps of
``distilled`` with two and with four steps, 999, 749, 499 and 249, are among those that the student is trained at. And
guidance has one scale, that of the reference: the student has no input for another, and engines, exports and samplers
keep the U-Net's four.

Letters: B latents, C channels, H and W, N tokens of D numbers, T timesteps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mindsight.generators.sampling.schedule import N_TIMESTEPS, alphas_cumprod

SOLVER_STEPS = 40
STRIDE = N_TIMESTEPS // SOLVER_STEPS
_SIGMA_DATA, _TIMESTEP_SCALE = 0.5, 10.0  # of the boundary condition
_HUBER = 1e-3

Evaluate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(latent_BCHW, timestep_B, tokens_BND, vector_BC) -> the predicted noise, float32."""


class Batch(NamedTuple):
    """What one loss is computed of, on the networks' device, float32.

    clean_BCHW : latents of images, and their tokens and vectors of sizes
    noise_BCHW : added to them as the timestep says, which is one of ``solver_timestep``'s
    uncond_BND : tokens that guidance leads away from
    """

    clean_BCHW: Tensor
    tokens_BND: Tensor
    vector_BC: Tensor
    noise_BCHW: Tensor
    uncond_BND: Tensor
    timestep_B: Tensor


def solver_timestep(number: int) -> int:
    """The timestep at which the solver's step ``number`` begins, from 1, the last before the image, to 40."""
    return STRIDE * number - 1


@dataclass(frozen=True, eq=False)
class Levels:
    """How much of the latent (alpha) and of the noise (sigma) there is at each timestep.

    alpha_T, sigma_T : float32; their squares sum to one
    """

    alpha_T: Tensor
    sigma_T: Tensor

    @classmethod
    def on(cls, device: str | torch.device) -> Levels:
        kept_T = torch.from_numpy(alphas_cumprod())
        return cls(kept_T.sqrt().float().to(device), (1.0 - kept_T).sqrt().float().to(device))

    def noisy(self, clean_BCHW: Tensor, noise_BCHW: Tensor, timestep_B: Tensor) -> Tensor:
        return _wide(self.alpha_T[timestep_B]) * clean_BCHW + _wide(self.sigma_T[timestep_B]) * noise_BCHW

    def clean(self, latent_BCHW: Tensor, noise_BCHW: Tensor, timestep_B: Tensor) -> Tensor:
        """What is left of a noisy latent without this noise."""
        return (latent_BCHW - _wide(self.sigma_T[timestep_B]) * noise_BCHW) / _wide(self.alpha_T[timestep_B])


def boundary(timestep_B: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the latent itself and of the network's estimate in the consistency function: 1 and 0 at timestep 0.

    From timestep 24 on, the first that the student is trained at, the latent's share is below 5e-6: samplers take the
    estimate alone.
    """
    scaled_B = _TIMESTEP_SCALE * timestep_B.float()
    squares_B = scaled_B.square() + _SIGMA_DATA**2
    return _SIGMA_DATA**2 / squares_B, scaled_B / squares_B.sqrt()


def consistent(levels: Levels, latent_BCHW: Tensor, timestep_B: Tensor, predicted_BCHW: Tensor) -> Tensor:
    """The consistency function of a network that predicts this noise."""
    skip_B, out_B = boundary(timestep_B)
    return _wide(skip_B) * latent_BCHW + _wide(out_B) * levels.clean(latent_BCHW, predicted_BCHW, timestep_B)


def solved(
    levels: Levels, latent_BCHW: Tensor, timestep_B: Tensor, earlier_B: Tensor, predicted_BCHW: Tensor
) -> Tensor:
    """The latent at an earlier timestep by one step of DDIM (Song et al. 2021, arXiv 2010.02502)."""
    clean_BCHW = levels.clean(latent_BCHW, predicted_BCHW, timestep_B)
    return levels.noisy(clean_BCHW, predicted_BCHW, earlier_B)


def loss(
    student: Evaluate, teacher: Evaluate, target: Evaluate, levels: Levels, batch: Batch, guidance: float
) -> Tensor:
    """Mean pseudo-Huber distance of the student from the target at the solver's next point.

    target : the student with averaged weights
    guidance : the teacher predicts ``uncond + guidance * (cond - uncond)``
    """
    clean, tokens, vector, noise, uncond, timestep = batch
    earlier = (timestep - STRIDE).clamp(min=0)
    noisy = levels.noisy(clean, noise, timestep)
    with torch.no_grad():
        both = [torch.cat(pair) for pair in ((noisy, noisy), (timestep, timestep), (uncond, tokens), (vector, vector))]
        away, towards = teacher(both[0], both[1], both[2], both[3]).chunk(2)
        point = solved(levels, noisy, timestep, earlier, away + guidance * (towards - away))
        end = consistent(levels, point, earlier, target(point, earlier, tokens, vector))
    found = consistent(levels, noisy, timestep, student(noisy, timestep, tokens, vector))
    return ((found - end).square() + _HUBER**2).sqrt().sub(_HUBER).mean()


def _wide(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]
