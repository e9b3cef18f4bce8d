"""Accuracy against the amount of data: what more trials would give, with intervals.

The model. The right one of N candidates is first if its score, of mean d and variance 1, is above those of the others,
of mean 0: with probability ∫ φ(x − d) Φ(x)^(N − 1) dx (D. M. Green, J. A. Swets, Signal detection theory, 1966); N is
1 / chance. What a linear decoder of n trials predicts correlates with what the best one does by √(n / (n + h)), so
d(n) = d∞ √(n / (n + h)). Two numbers, d∞ and h, and a curve that starts at chance, never falls and has a plateau.

The fit is a posterior on a grid, with d∞ and log h flat. Points of one curve are of the same test trials, whose hits
correlate: with P points, each counts as 1 / (1 + (P − 1) ρ) of its trials, ρ = 0.5. Knows nothing of decoders.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mindsight.errors import BadRequest
from mindsight.evaluation.calibration_record import LearningPoint

_D = np.linspace(0.0, 12.0, 121)
_HALVES = np.logspace(-2.0, 2.0, 81)  # of the most trials that the curve has
_CORRELATION = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """Posterior median with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """The posterior of a learning curve; G cells of the grid.

    chance : of the accuracy
    weight_G : sums to 1
    d_G, half_G : d∞ and h of the cells
    """

    chance: float
    weight_G: NDArray[np.float64]
    d_G: NDArray[np.float64]
    half_G: NDArray[np.float64]

    @classmethod
    def fit(cls, points: Sequence[LearningPoint]) -> FittedCurve:
        """Two points or more, with different numbers of trials; else raises BadRequest (``curve.points``)."""
        if len({point.trials for point in points}) < 2:
            raise BadRequest(
                f"expected a learning curve of two points or more, got {len(points)}: calibrate with more runs",
                code="curve.points",
            )
        chance = float(np.mean([point.accuracy.chance for point in points]))
        halves = _HALVES * max(point.trials for point in points)
        d_G, half_G = (grid.ravel() for grid in np.meshgrid(_D, halves, indexing="ij"))
        weight = 1.0 / (1.0 + (len(points) - 1) * _CORRELATION)
        logs_G = np.zeros(len(d_G))
        for point in points:
            hits, n = point.accuracy.hits, point.accuracy.n
            share_G = _accuracy(d_G * np.sqrt(point.trials / (point.trials + half_G)), chance)
            logs_G += weight * (hits * np.log(share_G) + (n - hits) * np.log1p(-share_G))
        weight_G = np.exp(logs_G - logs_G.max())
        return cls(chance, weight_G / weight_G.sum(), d_G, half_G)

    def accuracy(self, trials: float) -> Estimate:
        """After this number of trials; ``math.inf`` is the plateau."""
        return self._estimate(self._accuracy_G(trials))

    def probability_of(self, share: float, trials: float) -> float:
        """That the accuracy after these trials has this share of the way from chance to the plateau."""
        reached_G = self._accuracy_G(trials) - self.chance >= share * (self._accuracy_G(np.inf) - self.chance)
        return float(self.weight_G[reached_G].sum())

    def trials_for(self, share: float) -> Estimate:
        """How many trials give this share (below 1) of the way from chance to the plateau."""
        goal_G = self.chance + share * (self._accuracy_G(np.inf) - self.chance)
        part_G = np.divide(_d_of(goal_G, self.chance), self.d_G, out=np.ones_like(goal_G), where=self.d_G > 0.0)
        squared_G = np.minimum(part_G**2, 0.999)
        return self._estimate(self.half_G * squared_G / (1.0 - squared_G))

    def _accuracy_G(self, trials: float) -> NDArray[np.float64]:
        learnt_G = 1.0 if np.isinf(trials) else np.sqrt(trials / (trials + self.half_G))
        return _accuracy(self.d_G * learnt_G, self.chance)

    def _estimate(self, value_G: NDArray[np.float64]) -> Estimate:
        order = np.argsort(value_G, kind="stable")
        below = np.cumsum(self.weight_G[order])
        low, middle, high = (
            float(value_G[order[min(int(np.searchsorted(below, at)), len(order) - 1)]]) for at in (0.025, 0.5, 0.975)
        )
        return Estimate(middle, low, high)


@functools.lru_cache(maxsize=8)
def _table(chance: float) -> NDArray[np.float64]:
    """Accuracy at each d of the grid."""
    x = np.linspace(-9.0, 21.0, 3001)
    others = ndtr(x) ** (1.0 / chance - 1.0)
    density = np.exp(-0.5 * (x - _D[:, None]) ** 2) / np.sqrt(2.0 * np.pi)
    table: NDArray[np.float64] = np.clip((density * others).sum(axis=1) * (x[1] - x[0]), 1e-9, 1.0 - 1e-9)
    return table


def _accuracy(d: NDArray[np.float64], chance: float) -> NDArray[np.float64]:
    return np.asarray(np.interp(d, _D, _table(chance)))


def _d_of(accuracy: NDArray[np.float64], chance: float) -> NDArray[np.float64]:
    return np.asarray(np.interp(accuracy, _table(chance), _D))
