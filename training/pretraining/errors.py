"""The errors of decoded latents, learnt from simulated trials and drawn for any number of new images.

A visit gives hundreds of trials; a network that is to read decoded latents wants hundreds of thousands. Decoded latents
are close to linear in the true ones, with Gaussian errors, so a map and a covariance stand in for more visits.

Axes: K trials, B batch, H numbers of the latent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mindsight.weights.state_dict import read_state_dict, write_state_dict

_RELATIVE_RIDGE = 0.02  # of the mean eigenvalue; the map is well determined by a few thousand trials
_FLOOR = 1e-5  # added to the errors' variances, which may vanish along what no voxel responds to


@dataclass(frozen=True, eq=False)
class LatentErrors:
    """Decoded = ``decoded_mean_H`` + (true - ``true_mean_H``) ``map_HH`` + errors of covariance factor factorᵀ."""

    true_mean_H: Tensor
    decoded_mean_H: Tensor
    map_HH: Tensor
    factor_HH: Tensor

    @classmethod
    def learn(cls, decoded_KH: Tensor, true_KH: Tensor) -> LatentErrors:
        """From trials to which the decoder was not fitted, of several participants: their differences are errors too.

        Raises ValueError for fewer than twice as many trials as numbers of the latent.
        """
        n, width = true_KH.shape
        if n < 2 * width:
            raise ValueError(f"expected at least {2 * width} trials for {width} numbers, got {n}: simulate more runs")
        true_mean_H, decoded_mean_H = true_KH.mean(0), decoded_KH.mean(0)
        true, decoded = true_KH - true_mean_H, decoded_KH - decoded_mean_H
        square_HH = true.T @ true
        square_HH += _RELATIVE_RIDGE * square_HH.diagonal().mean() * torch.eye(width)
        map_HH = torch.linalg.solve(square_HH, true.T @ decoded)
        leverage_K = (torch.linalg.solve(square_HH, true.T).T * true).sum(1)
        left_out_KH = (decoded - true @ map_HH) / (1.0 - leverage_K)[:, None]  # as if fitted without the trial
        covariance_HH = torch.cov(left_out_KH.T) + _FLOOR * torch.eye(width)
        return cls(true_mean_H, decoded_mean_H, map_HH, torch.linalg.cholesky(covariance_HH))

    @classmethod
    def load(cls, path: Path) -> LatentErrors:
        """From a file that ``save`` wrote."""
        return cls(**read_state_dict(path))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        write_state_dict(path, {name: tensor.contiguous() for name, tensor in asdict(self).items()})

    def draw(self, true_BH: Tensor, level_B: Tensor, generator: torch.Generator) -> Tensor:
        """(B, H) latents as they might be decoded; errors times ``level_B``."""
        errors_BH = torch.randn(true_BH.shape, generator=generator) @ self.factor_HH.T
        return self.decoded_mean_H + (true_BH - self.true_mean_H) @ self.map_HH + level_B[:, None] * errors_BH
