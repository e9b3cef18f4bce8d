"""A score that is known exactly: of a mixture of Gaussians under SDXL's noise, and where its equation leads.

Six modes of different widths in 64 dimensions, root mean square 0.8: with one width for all, solvers of first order do
worse at the end and those of second order better. Letters: B samples, M modes, D dimensions.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from mindsight.generators.sampling.schedule import karras, sigma_at

NARROWEST, WIDEST = 0.07, 0.24  # standard deviation of a mode


class Mixture:
    def __init__(self, modes: int = 6, dimensions: int = 64) -> None:
        self.rng = np.random.default_rng(0)
        means_MD = self.rng.normal(size=(modes, dimensions))
        self.stds_M = torch.linspace(NARROWEST, WIDEST, modes, dtype=torch.float64)
        scale = math.sqrt((0.8**2 - float(self.stds_M.square().mean())) / np.mean(means_MD**2))
        self.means_MD = torch.from_numpy(scale * means_MD)

    def normal(self, n: int) -> Tensor:
        return torch.from_numpy(self.rng.normal(size=(n, self.means_MD.shape[1])))

    def draw(self, n: int) -> Tensor:
        chosen_B = torch.from_numpy(self.rng.integers(len(self.means_MD), size=n))
        return self.means_MD[chosen_B] + self.stds_M[chosen_B, None] * self.normal(n)

    def noise_in(self, sample_BD: Tensor, sigma: float) -> Tensor:
        """The noise that is expected in clean samples to which noise of standard deviation ``sigma`` was added."""
        variances_M = self.stds_M**2 + sigma**2
        squares_BM = torch.cdist(sample_BD, self.means_MD) ** 2
        volume_M = 0.5 * sample_BD.shape[1] * variances_M.log()
        share_BM = torch.softmax(-squares_BM / (2.0 * variances_M) - volume_M, dim=1) / variances_M
        return sigma * (share_BM.sum(1, keepdim=True) * sample_BD - share_BM @ self.means_MD)

    def predict(self, latent_BD: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
        """What a network trained to perfection would answer, with any tokens."""
        sigma = float(sigma_at(timestep))
        return (self.noise_in(latent_BD.double() * math.hypot(1.0, sigma), sigma),) * (1 + guided)

    def solution(self, sample_BD: Tensor, sigma: float, steps: int = 1000) -> Tensor:
        """Where the sampling equation leads from ``sigma`` to zero, by Heun's method."""
        _, sigmas = karras(steps, sigma)
        for here, there in itertools.pairwise(sigmas):
            slope = self.noise_in(sample_BD, here)
            ahead = sample_BD + (there - here) * slope
            if there > 0.0:
                slope = 0.5 * (slope + self.noise_in(ahead, there))
            sample_BD = sample_BD + (there - here) * slope
        return sample_BD


def error(result_BD: Tensor, solution_BD: Tensor) -> float:
    """Median over samples of the root mean square."""
    return float((result_BD - solution_BD).square().mean(1).sqrt().median())
