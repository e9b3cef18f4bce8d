"""Loops over voxels that numpy has no single call for. Single-threaded and without the interpreter's lock.

Knows nothing of designs. Letters: V voxels, T frames, B bins, K trials, R rows that trials share, L voxels at a time, N
capacity of the buffer, of which T are in use.

The buffer is passed whole: a slice of it has no stride the compiler knows, and the inner loops would not vectorise.
"""

from __future__ import annotations

from typing import Any

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
    fit_VT: NDArray[np.float32], series_VN: NDArray[np.float32], first: int, out_V4: NDArray[np.float64]
) -> None:
    """Per voxel, in float64, with the residuals e = y - fit: sum e_i^2, sum e_i e_(i+1), sum y_i^2, and the last e.

    first : row of series y, and of the output, at which to begin
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
        out_V4[first + v, 0] = r0
        out_V4[first + v, 1] = r1
        out_V4[first + v, 2] = yy
        out_V4[first + v, 3] = end


# Voxels side by side in ``separate_betas``: an odd number of cache lines, so that columns do not compete for one set.
LANES = 144
# Frames that are summed in float32 before the sum continues in float64.
_FRAMES_IN_SINGLE = 32


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _four_rows(weights_4T: NDArray[Any], first: int, end: int, y_TL: NDArray[Any], out_4L: NDArray[Any]) -> None:
    """Four rows of weights times y, from row ``first`` to ``end`` (multiples of four), added to the output."""
    out0, out1, out2, out3 = out_4L[0], out_4L[1], out_4L[2], out_4L[3]
    w = weights_4T
    for i in range(first, end, 4):
        y0, y1, y2, y3 = y_TL[i], y_TL[i + 1], y_TL[i + 2], y_TL[i + 3]
        a0, a1, a2, a3 = w[0, i], w[0, i + 1], w[0, i + 2], w[0, i + 3]
        b0, b1, b2, b3 = w[1, i], w[1, i + 1], w[1, i + 2], w[1, i + 3]
        c0, c1, c2, c3 = w[2, i], w[2, i + 1], w[2, i + 2], w[2, i + 3]
        d0, d1, d2, d3 = w[3, i], w[3, i + 1], w[3, i + 2], w[3, i + 3]
        for v in range(LANES):
            p, q, r, s = y0[v], y1[v], y2[v], y3[v]
            out0[v] += a0 * p + a1 * q + a2 * r + a3 * s
            out1[v] += b0 * p + b1 * q + b2 * r + b3 * s
            out2[v] += c0 * p + c1 * q + c2 * r + c3 * s
            out3[v] += d0 * p + d1 * q + d2 * r + d3 * s


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def separate_betas(
    series_VN: NDArray[np.float32],
    n_frames: int,
    band_KT: NDArray[np.float32],
    first_G: NDArray[np.int64],
    end_G: NDArray[np.int64],
    shared_RT: NDArray[np.float32],
    of_shared_KR: NDArray[np.float64],
    out_KV: NDArray[np.float64],
) -> None:
    """``(band + of_shared @ shared) @ y`` of each voxel's series y minus its mean.

    Rows are padded with zeros to multiples of four; group g is rows 4 g to 4 g + 3 of the band, which are zero outside
    frames ``first_G[g]`` to ``end_G[g]``. The output has K rows, without the padding.
    """
    n_voxels, n_rows = series_VN.shape[0], out_KV.shape[0]
    n_shared, n_padded = shared_RT.shape
    y_TL = np.zeros((n_padded, LANES), np.float32)
    shared_RL = np.empty((n_shared, LANES))
    part_4L, out_4L = np.empty((4, LANES), np.float32), np.empty((4, LANES))
    for start in range(0, n_voxels, LANES):
        n = min(LANES, n_voxels - start)
        for v in range(n):
            row = series_VN[start + v]
            total = 0.0
            for i in range(n_frames):
                total += np.float64(row[i])
            mean = np.float32(total / n_frames)
            for i in range(n_frames):
                y_TL[i, v] = row[i] - mean
        shared_RL[:] = 0.0
        for r in range(0, n_shared, 4):
            for first in range(0, n_padded, _FRAMES_IN_SINGLE):
                part_4L[:] = 0.0
                _four_rows(shared_RT[r : r + 4], first, min(first + _FRAMES_IN_SINGLE, n_padded), y_TL, part_4L)
                for j in range(4):
                    for v in range(LANES):
                        shared_RL[r + j, v] += np.float64(part_4L[j, v])
        for g in range(first_G.size):
            k = 4 * g
            part_4L[:] = 0.0
            _four_rows(band_KT[k : k + 4], first_G[g], end_G[g], y_TL, part_4L)
            for j in range(4):
                for v in range(LANES):
                    out_4L[j, v] = np.float64(part_4L[j, v])
            _four_rows(of_shared_KR[k : k + 4], 0, n_shared, shared_RL, out_4L)
            for j in range(min(4, n_rows - k)):
                for v in range(n):
                    out_KV[k + j, start + v] = out_4L[j, v]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def gram(series_VT: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, T) sum over voxels of the products of their frames."""
    n_voxels, n_frames = series_VT.shape
    out_TT = np.zeros((n_frames, n_frames))
    for v in range(n_voxels):
        y = series_VT[v]
        for i in range(n_frames):
            w = y[i]
            row = out_TT[i]
            for j in range(n_frames):
                row[j] += w * y[j]
    return out_TT
