"""Figures of a run's quality, updated with each volume: FD, DVARS, tSNR.

Knows nothing of thresholds: it measures only.

References: J. Power et al., "Spurious but systematic correlations in functional connectivity MRI networks arise from
subject motion", NeuroImage 59(3), 2012 (FD with rotations as arcs on a 50 mm sphere, DVARS); B. Welford,
Technometrics 4(3), 1962 (the running variance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.preprocessing.motion.rigid import SPHERE_RADIUS_MM


@dataclass(frozen=True, slots=True)
class QualityFigures:
    """One volume's figures.

    fd_mm : framewise displacement against the volume before, None for the first
    dvars_percent : root mean square over voxels of the change since the volume before, in percent of the mean signal so
        far; None for the first
    tsnr : median over voxels of mean / standard deviation over the volumes so far, None before the third
    """

    fd_mm: float | None
    dvars_percent: float | None
    tsnr: float | None


@njit(cache=True, nogil=True)
def _update(
    y_V: NDArray[np.float32],
    before_V: NDArray[np.float32],
    mean_V: NDArray[np.float64],
    square_V: NDArray[np.float64],
    n: int,
    broken: bool,
) -> tuple[float, float]:
    """Welford's step to n volumes, unless this one is broken. Returns the sums of squared changes and of means."""
    change = 0.0
    level = 0.0
    for v in range(y_V.shape[0]):
        y = np.float64(y_V[v])
        if not np.isfinite(y):
            y = np.float64(before_V[v])
        step = y - before_V[v]
        change += step * step
        if not broken:
            delta = y - mean_V[v]
            mean_V[v] += delta / n
            square_V[v] += delta * (y - mean_V[v])
        level += mean_V[v]
        before_V[v] = y
    return change, level


class Quality:
    """Streaming FD, DVARS and tSNR of one run over V voxels."""

    def __init__(self, n_voxels: int) -> None:
        self._n = 0
        self._n_broken = 0
        self._motion_6 = np.zeros(6)
        self._before_V = np.zeros(n_voxels, np.float32)
        self._mean_V = np.zeros(n_voxels)
        self._square_V = np.zeros(n_voxels)

    def push(self, voxels_V: NDArray[Any], motion_6: NDArray[np.float64], broken: bool = False) -> QualityFigures:
        """Take the next volume: (V,) voxels and (6,) motion, translations in mm, then rotations in radians.

        A ``broken`` volume has FD and DVARS, and stays out of tSNR, which it would spoil for the rest of the run. A
        voxel that is not finite counts as unchanged. Raises BadRequest on another number of voxels.
        """
        if voxels_V.shape != self._before_V.shape:
            raise BadRequest(f"expected {self._before_V.shape[0]} voxels, got an array of shape {voxels_V.shape}")
        motion_6 = np.asarray(motion_6, dtype=np.float64)
        first = self._n == 0
        self._n += 1
        self._n_broken += broken
        y_V = np.ascontiguousarray(voxels_V, dtype=np.float32)
        change, level = _update(y_V, self._before_V, self._mean_V, self._square_V, self._n - self._n_broken, broken)
        step_6 = np.abs(motion_6 - self._motion_6)
        self._motion_6 = motion_6.copy()
        if first:
            return QualityFigures(None, None, None)
        n_voxels = y_V.shape[0]
        fd_mm = float(step_6[:3].sum() + SPHERE_RADIUS_MM * step_6[3:].sum())
        dvars = 100.0 * float(np.sqrt(change / n_voxels)) / (level / n_voxels) if level > 0.0 else None
        return QualityFigures(fd_mm, dvars, self._tsnr())

    def _tsnr(self) -> float | None:
        n = self._n - self._n_broken
        if n < 3:
            return None
        sd_V = np.sqrt(self._square_V / (n - 1))
        live = (sd_V > 0.0) & (self._mean_V > 0.0)
        return float(np.median(self._mean_V[live] / sd_V[live])) if live.any() else None

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on what was pushed, as arrays."""
        return {
            "n": np.array([self._n, self._n_broken]),
            "motion_6": self._motion_6.copy(),
            "before_V": self._before_V.copy(),
            "mean_V": self._mean_V.copy(),
            "square_V": self._square_V.copy(),
        }

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a ``state()``: what follows has the same bits as without the interruption."""
        self._n, self._n_broken = (int(n) for n in state["n"])
        self._motion_6 = np.array(state["motion_6"], dtype=np.float64)
        self._before_V = np.array(state["before_V"], dtype=np.float32)
        self._mean_V = np.array(state["mean_V"], dtype=np.float64)
        self._square_V = np.array(state["square_V"], dtype=np.float64)
