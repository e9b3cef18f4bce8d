"""How far a session's betas have drifted from the calibration's statistics: each voxel's mean and spread.

Z-scores by the calibration's statistics carry the drift on to the decoder; those by the session's own do not. Knows
nothing of decoders. K trials, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.glm import Statistics

_MIN_BETAS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDrift:
    """One run's final betas against the calibration's.

    betas : of the run
    shift : root mean square over voxels of the difference of means, in the calibration's standard deviations
    expected_shift : the same for independent betas that have not drifted, since means of few betas differ
    spread : median over voxels of the run's standard deviation, as a multiple of the calibration's
    """

    run: int
    betas: int
    shift: float
    expected_shift: float
    spread: float

    @property
    def drifted(self) -> float:
        """The shift beyond what is expected."""
        return math.sqrt(max(0.0, self.shift**2 - self.expected_shift**2))


def drift_of(betas_of: Mapping[int, NDArray[Any]], calibrated: Statistics) -> tuple[RunDrift, ...]:
    """Of each run with four betas or more. betas_of : run -> (K, V), not z-scored."""
    live_V = calibrated.std_V > 0.0
    mean_V, std_V = (values[live_V].astype(np.float64) for values in (calibrated.mean_V, calibrated.std_V))
    found = []
    for run, betas_KV in sorted(betas_of.items()):
        if len(betas_KV) < _MIN_BETAS or not live_V.any():
            continue
        own_KV = np.asarray(betas_KV, np.float64)[:, live_V]
        shift_V = (own_KV.mean(axis=0) - mean_V) / std_V
        spread_V = own_KV.std(axis=0, ddof=1) / std_V
        spread = float(np.median(spread_V))
        found.append(
            RunDrift(
                run=run,
                betas=len(own_KV),
                shift=float(np.sqrt(np.mean(shift_V**2))),
                expected_shift=float(np.sqrt(spread**2 / len(own_KV) + 1.0 / max(calibrated.n, 1))),
                spread=spread,
            )
        )
    return tuple(found)
