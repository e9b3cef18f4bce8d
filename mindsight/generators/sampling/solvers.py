"""Solvers of the sampling equation, each as what it adds up: weights, not tensors.

Knows nothing of guidance or of what the weights are of. A sample, and each estimate of the clean latent, is a row of
weights of everything known so far, in the scale where the noise's standard deviation is sigma. With ``lambda`` the
negative logarithm of sigma, h is its step.

Axes: K what is known: start, noise, predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]
SolverName = Literal["euler", "dpm++2m", "unipc"]


@dataclass
class Path:
    """Where a sampler has been: a sigma, the sample there and the clean latent estimated from it, step by step."""

    sigmas: list[float] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    cleans: list[Row] = field(default_factory=list)

    def step(self, sigma: float) -> float:
        """h from the last sigma to this one."""
        return math.log(self.sigmas[-1] / sigma)

    def slope(self, h: float) -> tuple[float, Row]:
        """How long the step before was, in steps of h, with its sign; and the change of the estimate over it, per h."""
        before = math.log(self.sigmas[-2] / self.sigmas[-1]) / h
        return -before, (self.cleans[-1] - self.cleans[-2]) / before


Solver = Callable[[Path, float], Row]
"""The sample at the next sigma."""


def euler(path: Path, sigma: float) -> Row:
    """First order; DDIM without noise in this scale."""
    share = sigma / path.sigmas[-1]
    return share * path.samples[-1] + (1.0 - share) * path.cleans[-1]


def dpmpp_2m(path: Path, sigma: float) -> Row:
    """Second order, first at both ends (DPM-Solver++ 2M: Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""
    if sigma == 0.0 or len(path.sigmas) < 2:
        return euler(path, sigma)
    h = path.step(sigma)
    _, slope = path.slope(h)
    share = sigma / path.sigmas[-1]
    return share * path.samples[-1] + (1.0 - share) * (path.cleans[-1] + 0.5 * slope)


def unipc_corrected(path: Path, sample: Row, clean: Row, sigma: float) -> Row:
    """The sample at ``sigma`` again, now that the clean latent estimated from it is known.

    UniPC, ``bh2`` (Zhao et al. 2023, arXiv 2302.04867): second order, from the second step on third.
    """
    h = path.step(sigma)
    share = sigma / path.sigmas[-1]
    b_h = math.expm1(-h)
    phi_2 = b_h / -h - 1.0
    change = clean - path.cleans[-1]
    if len(path.sigmas) < 2:
        bend = 0.5 * change
    else:
        node, slope = path.slope(h)
        phi_3 = phi_2 / -h - 0.5
        weights = np.linalg.solve([[1.0, 1.0], [node, 1.0]], [phi_2 / b_h, 2.0 * phi_3 / b_h])
        bend = weights[0] * slope + weights[1] * change
    corrected: Row = share * path.samples[-1] - b_h * (path.cleans[-1] + bend)
    return corrected


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "dpm++2m": dpmpp_2m, "unipc": dpmpp_2m}
"""UniPC's predictor of second order is DPM++2M; its corrector makes the difference."""
CORRECTED = frozenset[SolverName]({"unipc"})
