"""The prior's noise schedule: 100 cosine steps, and the samplers' tables made from it.

Knows nothing of networks: numbers in, numbers out. Nichol and Dhariwal 2021 (cosine), Song et al. 2021 (DDIM); the
shifted alphas of the 20-step table are the reference's (MindEye2's prior, after DALLE2-pytorch).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TIMESTEPS = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One update ``x ← clean · x0 + noisy · x + noise · ε``: the network's x0 at time ``t``, ε a fresh normal draw."""

    t: int
    clean: float
    noisy: float
    noise: float


def alphas_cumprod() -> NDArray[np.float64]:
    """(100,) fraction of the signal's variance that is left at each time, betas clipped at 0.999."""
    position = np.linspace(0, TIMESTEPS, TIMESTEPS + 1) / TIMESTEPS
    signal = np.cos((position + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.clip(1 - signal[1:] / signal[:-1], 0, 0.999)
    return np.cumprod(1 - betas)


def sampler_table(steps: int) -> tuple[Step, ...]:
    """The update of each step, first to last; the last one returns x0 itself.

    100 steps are ancestral sampling. Fewer are the reference's stochastic DDIM (eta = 1): ``steps``
    times from -1 on, so one network evaluation less than ``steps`` (20: 19, at t = 94, 89, ..., 4).
    """
    if not 2 <= steps <= TIMESTEPS:
        raise ValueError(f"expected 2 to {TIMESTEPS} steps, got {steps}")
    return _ancestral() if steps == TIMESTEPS else _ddim(steps)


def _ddim(steps: int) -> tuple[Step, ...]:
    kept = alphas_cumprod()
    before = np.append(1.0, kept[:-1])
    times = [int(t) for t in np.linspace(-1, TIMESTEPS, steps + 1)[:-1]][::-1]
    table = []
    for t, after in pairwise(times[:-1]):
        alpha, alpha_after = before[t], before[after]
        noise = math.sqrt((1 - alpha / alpha_after) * (1 - alpha_after) / (1 - alpha))
        direction = math.sqrt(1 - alpha_after - noise**2)
        # eps = (sqrt(1/a) x - x0) / sqrt(1/a - 1), with the alpha of t itself while the rest uses the one before it
        noisy = direction * math.sqrt(1 / kept[t]) / math.sqrt(1 / kept[t] - 1)
        clean = math.sqrt(alpha_after) - direction / math.sqrt(1 / kept[t] - 1)
        table.append(Step(t, clean, noisy, noise))
    return (*table, Step(times[-2], 1.0, 0.0, 0.0))


def _ancestral() -> tuple[Step, ...]:
    kept = alphas_cumprod()
    before = np.append(1.0, kept[:-1])
    beta = 1 - kept / before
    variance = beta * (1 - before) / (1 - kept)
    clean = beta * np.sqrt(before) / (1 - kept)
    noisy = (1 - before) * np.sqrt(1 - beta) / (1 - kept)
    return tuple(
        Step(t, float(clean[t]), float(noisy[t]), math.sqrt(variance[t]) if t else 0.0)
        for t in reversed(range(TIMESTEPS))
    )
