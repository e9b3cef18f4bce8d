"""Loops over voxels that numpy has no single call for. Single-threaded and without the interpreter's lock.

Knows nothing of designs. Letters: V voxels, T frames, B bins, N capacity of the buffer, of which T are in use.

The buffer is passed whole: a slice of it has no stride the compiler knows, and the inner loops would not vectorise.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def grouped_dot(
    series_VN: NDArray[np.float32], weights_BT: NDArray[np.float64], bin_V: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(V,) sum over time of each voxel's series times its bin's weights, summed in float64."""
    n_voxels, n_frames = series_VN.shape[0], weights_BT.shape[1]
    out_V = np.empty(n_voxels)
    for v in range(n_voxels):
        y, weights = series_VN[v], weights_BT[bin_V[v]]
        total = 0.0
        for i in range(n_frames):
            total += weights[i] * y[i]
        out_V[v] = total
    return out_V


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def lag_sums(
    fit_VT: NDArray[np.float32], series_VN: NDArray[np.float32], first: int, out_V3: NDArray[np.float64]
) -> None:
    """Of the residuals e = y - fit, from row ``first`` of series y and output on, per voxel and summed in float64:
    sum e_i^2, sum e_i e_(i+1), sum y_i^2.
    """
    n_voxels, n_frames = fit_VT.shape
    for v in range(n_voxels):
        fit, y = fit_VT[v], series_VN[first + v]
        end = np.float64(y[n_frames - 1] - fit[n_frames - 1])
        r0 = end * end
        yy = np.float64(y[n_frames - 1]) ** 2
        r1 = 0.0
        for i in range(n_frames - 1):
            e = np.float64(y[i] - fit[i])
            r0 += e * e
            r1 += e * np.float64(y[i + 1] - fit[i + 1])
            yy += np.float64(y[i]) * np.float64(y[i])
        out_V3[first + v, 0] = r0
        out_V3[first + v, 1] = r1
        out_V3[first + v, 2] = yy


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def centre(
    series_VN: NDArray[np.float32], first: int, out_VT: NDArray[np.float32], mean_V: NDArray[np.float64]
) -> None:
    """Rows of the buffer from ``first`` on, less their mean, into ``out_VT``; the mean is added to ``mean_V``.

    Weights rounded to float32 no longer sum to zero: without its mean a series is spared what that would cost.
    """
    n_voxels, n_frames = out_VT.shape
    for v in range(n_voxels):
        y = series_VN[first + v]
        total = 0.0
        for i in range(n_frames):
            total += np.float64(y[i])
        mean = total / n_frames
        mean_V[first + v] += mean
        for i in range(n_frames):
            out_VT[v, i] = np.float32(np.float64(y[i]) - mean)
