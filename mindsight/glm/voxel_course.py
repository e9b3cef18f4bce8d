"""One voxel's series beside its fit, with the fit's standard error: for a person who looks at it.

Knows nothing of events. Letters: T frames, R rank of the design.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.glm.estimators import gram_matrices, whitened_twice
from mindsight.glm.noise import AR_BINS, Residuals


class VoxelCourse(NamedTuple):
    """(T,) float64 each, in units of the voxel values.

    data_T : as measured
    fit_T : what the design predicts
    error_T : standard error of the fit; infinite while no degrees of freedom are left
    """

    data_T: NDArray[np.float64]
    fit_T: NDArray[np.float64]
    error_T: NDArray[np.float64]


def voxel_course(
    series_1N: NDArray[np.float32], baseline: float, q_TR: NDArray[np.float64], *, ar1: bool
) -> VoxelCourse:
    """A voxel's fit by generalised least squares.

    series_1N : (1, N) of which the first T are its frames, as differences to ``baseline``
    q_TR : the design's orthonormal columns
    ar1 : whiten with the AR(1) coefficient of its residuals, as the betas are
    """
    n_frames = len(q_TR)
    residuals = Residuals(series_1N, q_TR, with_variance=ar1)
    rho_B = residuals.ar_hundredths() / AR_BINS if ar1 else np.zeros(1)
    variance = float(residuals.variance(rho_B, np.zeros(1, np.int64))[0])
    inverse_RR = np.linalg.inv(gram_matrices(q_TR, rho_B)[0])
    y_T = series_1N[0, :n_frames].astype(np.float64)
    fit_T = q_TR @ (inverse_RR @ (q_TR.T @ whitened_twice(y_T, rho_B[0])))
    leverage_T = np.einsum("tr,rs,ts->t", q_TR, inverse_RR, q_TR)
    return VoxelCourse(y_T + baseline, fit_T + baseline, np.sqrt(variance * np.maximum(leverage_T, 0.0)))
