"""How well the reference, at a pose, explains a volume: over all, slice by slice, and with which gain.

Knows nothing of what is concluded from it. A few thousand voxels are enough and cost a fraction of a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.preprocessing.spline import FloatArray, interpolate

Float64Array = NDArray[np.float64]

SAMPLES = 8192
MIN_PER_SLICE = 20


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sums(
    coef: FloatArray,
    ijk_N3: NDArray[np.int16],
    m: Float64Array,
    flat: FloatArray,
    index_N: NDArray[np.int32],
    every: int,
    slice_axis: int,
    out_Z6: Float64Array,
) -> None:
    """Per slice, of every so many voxels: their number, sums of r, v, rr, vv, rv (r the reference, v the volume)."""
    for n in range(0, ijk_N3.shape[0], every):
        a, b, c = float(ijk_N3[n, 0]), float(ijk_N3[n, 1]), float(ijk_N3[n, 2])
        r = np.float64(
            interpolate(
                coef,
                m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3],
                m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3],
                m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3],
            )
        )
        v = np.float64(flat[index_N[n]])
        row = out_Z6[ijk_N3[n, slice_axis]]
        row[0] += 1.0
        row[1] += r
        row[2] += v
        row[3] += r * r
        row[4] += v * v
        row[5] += r * v


@dataclass(frozen=True, slots=True)
class Survey:
    """sums_Z6 : per slice the number of voxels and the sums of r, v, rr, vv, rv."""

    sums_Z6: Float64Array

    def explain(self, keep_Z: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Gain, offset and the share of the kept slices' variance that remains unexplained (1.0: all of it).

        The gain is the ratio of standard deviations: unlike a regression's slope, noise in the reference and a pose
        that is not yet right do not lower it.
        """
        n, r, v, rr, vv, rv = self.sums_Z6[keep_Z].sum(axis=0).tolist()
        if n < MIN_PER_SLICE:
            return 1.0, 0.0, 1.0
        rr, vv, rv = rr - r * r / n, vv - v * v / n, rv - r * v / n
        if not (rr > 0.0 and vv > 0.0 and rv > 0.0):
            return 1.0, 0.0, 1.0
        gain = math.sqrt(vv / rr)
        return gain, (v - gain * r) / n, max(0.0, 1.0 - rv * rv / (rr * vv))

    def errors(self, gain: float, offset: float) -> Float64Array:
        """(Z,) mean squared error of each slice in units of the reference; 0 where there are too few voxels."""
        n, r, v, rr, vv, rv = self.sums_Z6.T
        # Of (v - offset) / gain against r.
        square = vv - 2 * gain * rv - 2 * offset * v + gain**2 * rr + 2 * gain * offset * r + offset**2 * n
        enough = n >= MIN_PER_SLICE
        out: Float64Array = np.where(enough, np.maximum(square, 0.0) / np.maximum(n, 1.0) / gain**2, 0.0)
        return out


def survey(
    coef: FloatArray,
    ijk_N3: NDArray[np.int16],
    index_N: NDArray[np.int32],
    to_voxel: Float64Array,
    flat: FloatArray,
    slice_axis: int,
    n_slices: int,
) -> Survey:
    """Compare volume voxels (ijk, and as offsets into flat) with the reference's coefficients at to_voxel (3, 4)."""
    sums_Z6 = np.zeros((n_slices, 6))
    every = max(1, index_N.shape[0] // SAMPLES)
    _sums(coef, ijk_N3, to_voxel, flat, index_N, every, slice_axis, sums_Z6)
    return Survey(sums_Z6)
