"""Detection of broken volumes: one that differs from the last good volume far more than volumes of its run do.

Knows nothing of motion, which realignment has taken out. Compared with the last *good* volume and not with the last one
(as DVARS is, Power et al. 2012), so that the volume after a broken one is not taken for broken too. A change that stays
is not a spike: after ``MAX_IN_A_ROW`` it is the new signal level, and the usual step is estimated again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_RATIO = 3.0
MIN_PERCENT = 2.0  # of the mean signal: what brains do from one volume to the next is less, however quiet the scanner
MIN_STEPS = 8
MAX_IN_A_ROW = 2
_MAX_STEPS_KEPT = 60


class SpikeDetector:
    """State of one run; ``n_voxels`` of what is pushed."""

    def __init__(self, n_voxels: int) -> None:
        self._good_V = np.zeros(n_voxels, np.float32)
        self._steps = np.zeros(0)
        self._n_good = 0
        self._in_a_row = 0

    def push(self, voxels_V: NDArray[np.float32], good: bool) -> bool:
        """Whether this volume is broken.

        good : False if the volume is excluded for another reason; it then does not update the baseline
        """
        if self._n_good == 0:
            if good:
                self._good_V, self._n_good = voxels_V.copy(), 1
            return False
        step = float(np.sqrt(np.mean(np.square(voxels_V - self._good_V), dtype=np.float64)))
        known = len(self._steps) >= MIN_STEPS
        broken = known and step > self._limit() and self._in_a_row < MAX_IN_A_ROW
        if broken:
            self._in_a_row += 1
        elif good:
            stays = self._in_a_row == MAX_IN_A_ROW
            self._steps = np.zeros(0) if stays else np.append(self._steps, step)[-_MAX_STEPS_KEPT:]
            self._good_V, self._n_good, self._in_a_row = voxels_V.copy(), self._n_good + 1, 0
        return broken

    def _limit(self) -> float:
        level = float(np.mean(np.abs(self._good_V), dtype=np.float64))
        return max(MAX_RATIO * float(np.median(self._steps)), MIN_PERCENT / 100.0 * level)

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "good_V": self._good_V.copy(),
            "steps": self._steps.copy(),
            "counts": np.array([self._n_good, self._in_a_row]),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._good_V = state["good_V"].astype(np.float32)
        self._steps = state["steps"].astype(np.float64)
        self._n_good, self._in_a_row = (int(count) for count in state["counts"])
