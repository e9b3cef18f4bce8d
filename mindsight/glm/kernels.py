"""Loops over voxels that numpy has no single call for. Single-threaded and without the interpreter's lock.

Knows nothing of designs. Letters: V voxels, T frames, B bins.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def grouped_dot(
    series_VT: NDArray[np.float32], weights_BT: NDArray[np.float64], bin_V: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(V,) sum over time of each voxel's series times its bin's weights, summed in float64."""
    n_voxels, n_frames = series_VT.shape
    out_V = np.empty(n_voxels)
    for v in range(n_voxels):
        b = bin_V[v]
        total = 0.0
        for i in range(n_frames):
            total += weights_BT[b, i] * series_VT[v, i]
        out_V[v] = total
    return out_V


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def lag_sums(residual_VT: NDArray[np.float32], out_V3: NDArray[np.float64], series_VT: NDArray[np.float32]) -> None:
    """Per voxel into ``out_V3``: sum e_i^2, sum e_i e_(i+1), sum y_i^2."""
    n_voxels, n_frames = residual_VT.shape
    for v in range(n_voxels):
        r0 = np.float64(residual_VT[v, n_frames - 1]) ** 2
        yy = np.float64(series_VT[v, n_frames - 1]) ** 2
        r1 = 0.0
        for i in range(n_frames - 1):
            e = np.float64(residual_VT[v, i])
            r0 += e * e
            r1 += e * np.float64(residual_VT[v, i + 1])
            y = np.float64(series_VT[v, i])
            yy += y * y
        out_V3[v, 0] = r0
        out_V3[v, 1] = r1
        out_V3[v, 2] = yy
