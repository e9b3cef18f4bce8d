"""How well the reference at a pose explains a volume: in total, per slice, and with which gain.

Knows nothing of what follows from the figures. A few thousand voxels are enough and cost a fraction of a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.preprocessing.motion.spline import FloatArray

Float64Array = NDArray[np.float64]

MIN_PER_SLICE = 20


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sums(r_V: FloatArray, v_V: FloatArray, slice_V: NDArray[np.int16], out_Z6: Float64Array) -> None:
    """Per slice: the number of voxels, sums of r, v, rr, vv, rv."""
    for n in range(r_V.shape[0]):
        r, v = np.float64(r_V[n]), np.float64(v_V[n])
        row = out_Z6[slice_V[n]]
        row[0] += 1.0
        row[1] += r
        row[2] += v
        row[3] += r * r
        row[4] += v * v
        row[5] += r * v


@dataclass(frozen=True, slots=True)
class SliceResiduals:
    """sums_Z6 : per slice the number of voxels and the sums of r, v, rr, vv, rv."""

    sums_Z6: Float64Array

    def fit(self, keep_Z: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Gain, offset and the unexplained share of the kept slices' variance (1.0: all of it).

        The gain is the ratio of standard deviations: unlike a regression's slope, it is not lowered by noise in
        the reference or by a pose that is not yet right.
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
        """(Z,) mean squared error of each slice in units of the reference; 0 if there are too few voxels."""
        n, r, v, rr, vv, rv = self.sums_Z6.T
        # (v - offset) / gain compared with r
        square = vv - 2 * gain * rv - 2 * offset * v + gain**2 * rr + 2 * gain * offset * r + offset**2 * n
        enough = n >= MIN_PER_SLICE
        out: Float64Array = np.where(enough, np.maximum(square, 0.0) / np.maximum(n, 1.0) / gain**2, 0.0)
        return out


def slice_residuals(
    reference_V: FloatArray, volume_V: FloatArray, slice_V: NDArray[np.int16], n_slices: int
) -> SliceResiduals:
    """Compare the values of reference and volume at V voxels, which lie in slices ``slice_V``."""
    sums_Z6 = np.zeros((n_slices, 6))
    _sums(reference_V, volume_V, np.ascontiguousarray(slice_V), sums_Z6)
    return SliceResiduals(sums_Z6)
