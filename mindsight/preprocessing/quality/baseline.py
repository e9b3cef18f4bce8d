"""A calibration's signal level and noise, which a session's runs are compared with.

Knows nothing of limits or alerts. V voxels, T volumes, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Baseline:
    """Signal of the calibration's runs in the subject's mask. None if it was not measured.

    mean_signal : mean over volumes and voxels, in the volumes' units. tsnr : as ``QualityFigures`` has it.
    """

    mean_signal: float | None = None
    tsnr: float | None = None


def measure_signal(series_TV: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, V) mean and temporal signal-to-noise of each voxel over these volumes of a run; 0 if there is no noise."""
    mean_V = series_TV.mean(axis=0, dtype=np.float64)
    sd_V = series_TV.std(axis=0, ddof=1, dtype=np.float64)
    tsnr_V = np.divide(mean_V, sd_V, out=np.zeros_like(mean_V), where=(sd_V > 0.0) & (mean_V > 0.0))
    return np.stack([mean_V, tsnr_V]).astype(np.float32)


def baseline_of(signal_R2V: Sequence[NDArray[np.float32]]) -> Baseline:
    """The median over runs.

    signal_R2V : ``measure_signal`` of each calibration run
    """
    signals = [float(mean_V.mean(dtype=np.float64)) for mean_V, _ in signal_R2V]
    ratios = [float(np.median(tsnr_V[tsnr_V > 0.0])) for _, tsnr_V in signal_R2V if (tsnr_V > 0.0).any()]
    return Baseline(float(np.median(signals)), float(np.median(ratios)) if ratios else None)
