"""Whether confidence is honest: how often results with a stated confidence were right (a reliability diagram).

M. H. DeGroot, S. E. Fienberg, The Statistician 32, 1983. Knows nothing of decoders. K results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindsight.accuracy import Accuracy

N_BINS = 8
_MIN_PER_BIN = 8


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Results of similar confidence. stated : their mean confidence; observed : how often they were right."""

    stated: float
    observed: Accuracy

    @property
    def gap(self) -> float:
        """Stated minus observed."""
        return self.stated - self.observed.value


def reliability(
    confidence_K: Sequence[float], right_K: Sequence[bool], chance: float, n_bins: int = N_BINS
) -> list[ReliabilityBin]:
    """In bins of equally many results, at least _MIN_PER_BIN in each if there are as many; empty without results."""
    stated_K, hit_K = np.asarray(confidence_K, float), np.asarray(right_K, bool)
    if len(stated_K) == 0:
        return []
    n = max(1, min(n_bins, len(stated_K) // _MIN_PER_BIN))
    parts = np.array_split(np.argsort(stated_K, kind="stable"), n)
    return [
        ReliabilityBin(float(stated_K[part].mean()), Accuracy(int(hit_K[part].sum()), len(part), chance))
        for part in parts
    ]


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of stated from observed, each bin by its number of results."""
    total = sum(one.observed.n for one in bins)
    return sum(abs(one.gap) * one.observed.n for one in bins) / total if total else 0.0
