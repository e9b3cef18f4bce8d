"""How much noise there is at each timestep of Stable Diffusion's training, and which of these levels a sampler visits.

Knows nothing of samplers. ``sigma`` is the noise's standard deviation beside a clean latent of scale one; a network
sees the sum divided by ``sqrt(1 + sigma**2)``. Timesteps may lie between integers.

Axes: T the 1,000 timesteps of training, E steps of a sampler.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_TIMESTEPS = 1000
_FIRST_BETA, _LAST_BETA = 0.00085, 0.012
_RHO = 7.0  # Karras et al. 2022 (arXiv 2206.00364), equation 5

Grid = tuple[NDArray[np.float64], NDArray[np.float64]]
"""timesteps_E, and their sigmas followed by zero (E + 1)."""


@cache
def alphas_cumprod() -> NDArray[np.float64]:
    """(T,) share of the clean latent's variance that is left at each timestep (``scaled_linear``)."""
    betas_T = np.linspace(_FIRST_BETA**0.5, _LAST_BETA**0.5, N_TIMESTEPS) ** 2
    return np.cumprod(1.0 - betas_T, dtype=np.float64)


@cache
def _log_sigmas() -> NDArray[np.float64]:
    kept_T = alphas_cumprod()
    return 0.5 * np.log((1.0 - kept_T) / kept_T)


def sigma_at(timesteps: ArrayLike) -> NDArray[np.float64]:
    """Sigma, between integers interpolated in its logarithm."""
    return np.exp(np.interp(np.asarray(timesteps, dtype=np.float64), np.arange(N_TIMESTEPS), _log_sigmas()))


def timestep_at(sigma: ArrayLike) -> NDArray[np.float64]:
    """The timestep of a sigma, the inverse of ``sigma_at``."""
    return np.interp(np.log(np.asarray(sigma, dtype=np.float64)), _log_sigmas(), np.arange(N_TIMESTEPS))


def listed(timesteps_E: ArrayLike) -> Grid:
    """These timesteps, from noise to image."""
    timesteps = np.asarray(timesteps_E, dtype=np.float64)
    return timesteps, np.append(sigma_at(timesteps), 0.0)


def even(steps: int) -> Grid:
    """Integers spread evenly below 999, as MindEye2's reference visits them."""
    return listed([(N_TIMESTEPS - 1) * (steps - step) // steps for step in range(steps)])


def trailing(steps: int) -> Grid:
    """The last integer of each of ``steps`` equal parts: best for few steps (Lin et al. 2024, 2305.08891)."""
    return listed([round(N_TIMESTEPS * (steps - step) / steps) - 1 for step in range(steps)])


def karras(steps: int, first_sigma: float | None = None) -> Grid:
    """Sigmas evenly spread in their seventh root, from ``first_sigma`` (None: the largest) to the smallest."""
    smallest, largest = sigma_at([0, N_TIMESTEPS - 1])
    first = largest if first_sigma is None else first_sigma
    sigmas = np.linspace(first ** (1 / _RHO), smallest ** (1 / _RHO), steps) ** _RHO
    return timestep_at(sigmas), np.append(sigmas, 0.0)
