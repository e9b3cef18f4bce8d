"""Accuracy, never without its chance level, its n and its interval.

Knows nothing of brains or pools. On the ground floor, so that counting hits does not require importing an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Z95 = 1.959963984540054


def wilson_interval(hits: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Interval of a proportion (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927); 95 % by default, (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """hits of n, and what guessing would reach (0 to 1)."""

    hits: int
    n: int
    chance: float

    @property
    def value(self) -> float:
        """Share of hits, 0 for n = 0."""
        return self.hits / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson_interval(self.hits, self.n)

    @classmethod
    def of(cls, hits: Collection[bool], chance: float) -> Accuracy:
        """The accuracy of results that are each a hit or a miss."""
        return cls(sum(hits), len(hits), chance)

    def __add__(self, other: Accuracy) -> Accuracy:
        """Both together; the chance level is the mean over the trials."""
        n = self.n + other.n
        chance = (self.chance * self.n + other.chance * other.n) / n if n else self.chance
        return Accuracy(self.hits + other.hits, n, chance)

    def __str__(self) -> str:
        low, high = self.interval
        of = f"{self.hits} of {self.n}, 95 % interval {low:.1%} to {high:.1%}, chance {self.chance:.1%}"
        return f"{self.value:.1%} ({of})"


def top_k(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], k: int) -> Accuracy:
    """How often a right candidate is among the k best.

    scores_KN : (K, N) score of each of N candidates in K trials; equal scores rank in the order of the candidates
    right_KN : (K, N) which are right

    Chance is that of k candidates drawn without replacement, averaged over the trials.
    """
    n_trials, n = scores_KN.shape
    best_Kk = np.argsort(-scores_KN, axis=1, kind="stable")[:, :k]
    hits = int(np.take_along_axis(right_KN, best_Kk, axis=1).any(axis=1).sum())
    misses = [math.comb(n - int(right), k) / math.comb(n, k) for right in right_KN.sum(axis=1)]
    return Accuracy(hits, n_trials, 1.0 - sum(misses) / n_trials)
