"""One Newton step of a pose: the remaining motion, from the reference and the volume at the present pose.

Knows nothing of sessions or of when to stop; see ``realign`` for that, and ``device`` for the same on a GPU.

The incoming volume v is never interpolated. With S the pose (volume mm -> reference mm), q_i chosen voxels of the
reference and x_i the volume's voxel nearest to S^-1 q_i,

    v[x_i] = gain reference(exp(theta) S x_i) + nuisance + noise

and the step is theta = (J' J_r)^-1 J' (v / gain - reference(S x)), with

    J_s = derivatives of the SMOOTHED reference by theta, taken at q_i once and for all (the instrument)
    J_r = derivatives of the reference itself
    N   = [1, R, R u, R u u'] (11 columns, R = reference at S x, u = position): offset, gain and receive field
    J   = J_s - N (N'N)^-1 N'J_s

Why an instrument: the derivative of a noisy image is noisy in the same voxels as the residual, which biases ordinary
least squares (errors in variables). A regressor that correlates with the signal but not with that noise removes the
bias (instrumental variables; e.g. J. Wooldridge, "Econometric Analysis of Cross Section and Panel Data", 2010,
chapter 5). An instrument need not be exact, so half a voxel between q_i and S x_i does no harm; N must be, and is taken
at the pose: J'N = 0 there, so that drift and a receive field that stays with the scanner do not move the estimate.
The step is zero where J' (v / gain - R) is; J_r only says how long it is. J_r is J_s times a matrix, nearly, and that
matrix is found once: wherever the volume's edge or slices at fault take voxels away, J'J_r follows from J'J_s.

All sums over the voxels are one symmetric matrix: of N, J_s and the residual with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing.motion.memory_order import Grid
from mindsight.preprocessing.motion.residuals import SliceResiduals, slice_residuals
from mindsight.preprocessing.motion.spline import FloatArray, gradient_voxels, sample_nearest

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

N_NUISANCE = 11
N_COLUMNS = N_NUISANCE + 6 + 1
LENGTH_MM = 50.0  # unit of positions, for a well-conditioned system; turns are counted as arcs at this radius
MIN_SLOPE = 1e-4  # of the value per mm, root mean square: a real head has 1e-2 and more
_BLOCK = 256  # voxels whose columns stay in the first cache while they are multiplied with each other


@dataclass(frozen=True, slots=True)
class Points:
    """Voxels of the reference and the slopes of the smoothed reference there.

    ijk_N3 : int16, in memory order of the reference; slope_N3 : per mm of reference space, in units of ``Frame.level``
    """

    ijk_N3: NDArray[np.int16]
    slope_N3: FloatArray

    def share(self, part: float) -> Points:
        """About this share of them, evenly spread and not aligned with any grid (golden sections of the list)."""
        golden = 0.6180339887498949
        chosen_N = (np.arange(len(self.ijk_N3)) * golden) % 1.0 < part
        return Points(self.ijk_N3[chosen_N].copy(), self.slope_N3[chosen_N].copy())


@dataclass(frozen=True, slots=True)
class Frame:
    """The reference in the form that the kernels take.

    coef : padded B-spline coefficients; affine : (4, 4) voxel of the coefficients -> reference mm
    centre_mm : (3,) centre of rotations; level : mean value at the points, the unit of values
    lengthen_66 : (J'J_r)^-1 J'J_s, factor of a step of the smoothed reference
    """

    coef: FloatArray
    affine: Float64Array
    centre_mm: Float64Array
    level: float
    lengthen_66: Float64Array


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _add_products(block_CB: FloatArray, n: int, out_CC: Float64Array) -> None:
    """out += block block' (lower triangle), over the first n of the block's voxels."""
    for a in range(block_CB.shape[0]):
        for b in range(a + 1):
            left, right = block_CB[a], block_CB[b]
            total = np.float32(0.0)
            for i in range(n):
                total += left[i] * right[i]
            out_CC[a, b] += np.float64(total)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _products(
    reference_N: FloatArray,
    values_N: FloatArray,
    xyz_N3: FloatArray,
    slope_N3: FloatArray,
    at_N: NDArray[np.int32],
    value_scale: np.float32,
    reference_scale: np.float32,
) -> Float64Array:
    """(18, 18) lower triangle: N, J_s and the residual multiplied with each other and summed over the voxels."""
    out_CC = np.zeros((N_COLUMNS, N_COLUMNS))
    block = np.empty((N_COLUMNS, _BLOCK), np.float32)
    filled = 0
    for n in range(reference_N.shape[0]):
        r = reference_N[n] * reference_scale
        x, y, z = xyz_N3[n]
        gx, gy, gz = slope_N3[at_N[n]]
        block[0, filled] = np.float32(1.0)
        block[1, filled] = r
        block[2, filled], block[3, filled], block[4, filled] = r * x, r * y, r * z
        block[5, filled], block[6, filled], block[7, filled] = r * x * x, r * y * y, r * z * z
        block[8, filled], block[9, filled], block[10, filled] = r * x * y, r * x * z, r * y * z
        block[11, filled], block[12, filled], block[13, filled] = gx, gy, gz
        block[14, filled] = y * gz - z * gy
        block[15, filled] = z * gx - x * gz
        block[16, filled] = x * gy - y * gx
        block[17, filled] = values_N[n] * value_scale - r
        filled += 1
        if filled == _BLOCK:
            _add_products(block, filled, out_CC)
            filled = 0
    _add_products(block, filled, out_CC)
    return out_CC


def instrument(
    coef: FloatArray, smooth: FloatArray, affine: Float64Array, centre_mm: Float64Array, ijk_N3: NDArray[np.int16]
) -> tuple[Points, Frame]:
    """Points and frame of a reference, from the coefficients of itself and of its smoothed self.

    Raises BadVolume (``motion.featureless``) if the reference does not determine six parameters.
    """
    rest = np.ascontiguousarray(np.eye(4)[:3])
    to_mm = np.linalg.inv(affine[:3, :3])  # a row of slopes per voxel times this is per mm
    raw_N4, smooth_N4 = gradient_voxels(coef, rest, ijk_N3), gradient_voxels(smooth, rest, ijk_N3)
    level = max(float(np.abs(raw_N4[:, 0]).mean()), 1e-12)
    u_N3 = (ijk_N3 @ affine[:3, :3].T + affine[:3, 3] - centre_mm) / LENGTH_MM
    slope_N3, raw_slope_N3 = smooth_N4[:, 1:] @ to_mm / level, raw_N4[:, 1:] @ to_mm / level
    smooth_N6 = np.hstack([slope_N3, np.cross(u_N3, slope_N3)])
    raw_N6 = np.hstack([raw_slope_N3, np.cross(u_N3, raw_slope_N3)])
    x, y, z = u_N3.T
    shape_NA = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
    nuisance_NA = np.hstack([np.ones((len(x), 1)), shape_NA * (raw_N4[:, :1] / level)])
    regress = np.linalg.lstsq(nuisance_NA.T @ nuisance_NA, nuisance_NA.T @ smooth_N6, rcond=None)[0]
    rest_N6 = smooth_N6 - nuisance_NA @ regress
    information = rest_N6.T @ raw_N6
    if not np.diag(information).min() / len(x) > MIN_SLOPE**2:
        raise BadVolume(
            "expected a reference with structure in all directions, got one that does not determine a pose",
            code="motion.featureless",
        )
    lengthen_66 = np.linalg.solve(information, rest_N6.T @ smooth_N6)
    return Points(ijk_N3, slope_N3.astype(np.float32)), Frame(coef, affine, centre_mm, level, lengthen_66)


@dataclass(frozen=True, slots=True)
class PairedVoxels:
    """Values of the reference and of a volume at K voxels of the volume, at one pose.

    reference_K, values_K : of the reference (interpolated) and of the volume
    position_K3 : from the centre, in LENGTH_MM
    slice_K : which of the volume's slices; row_K : which of the points
    """

    reference_K: FloatArray
    values_K: FloatArray
    position_K3: FloatArray
    slice_K: NDArray[np.int16]
    row_K: NDArray[np.int32]

    def residuals(self, n_slices: int) -> SliceResiduals:
        """How well the reference explains the volume, per slice."""
        return slice_residuals(self.reference_K, self.values_K, self.slice_K, n_slices)


def pair_voxels(
    frame: Frame, points: Points, grid: Grid, values: FloatArray, pose: Float64Array, keep_Z: BoolArray
) -> PairedVoxels:
    """Pair the reference at ``pose`` with the volume (``values`` on ``grid``), in the slices to keep."""
    matrix = pose @ grid.affine
    back_mm = matrix[:3] / LENGTH_MM
    back_mm[:, 3] -= frame.centre_mm / LENGTH_MM
    there, back = np.linalg.solve(matrix, frame.affine), np.linalg.solve(frame.affine, matrix)
    return PairedVoxels(
        *sample_nearest(
            frame.coef,
            np.ascontiguousarray(there[:3]),
            np.ascontiguousarray(back[:3]),
            back_mm,
            points.ijk_N3,
            values,
            grid.slice_axis,
            keep_Z,
        )
    )


def step(frame: Frame, points: Points, paired: PairedVoxels, gain: float) -> Float64Array:
    """The twist (6,), mm and rad, from the pose to the estimated one; NaN if it is undetermined.

    gain : of the volume against the reference
    """
    scale = 1.0 / frame.level
    sums_CC = _products(
        paired.reference_K,
        paired.values_K,
        paired.position_K3,
        points.slope_N3,
        paired.row_K,
        np.float32(scale / gain),
        np.float32(scale),
    )
    sums_CC += np.tril(sums_CC, -1).T
    k = N_NUISANCE
    if not np.isfinite(sums_CC).all() or sums_CC[0, 0] < k:
        return np.full(6, np.nan)
    regress = np.linalg.lstsq(sums_CC[:k, :k], sums_CC[:k, k:], rcond=None)[0]
    left = sums_CC[k:, k:] - sums_CC[k:, :k] @ regress
    scaled = frame.lengthen_66 @ np.linalg.lstsq(left[:6, :6], left[:6, 6], rcond=None)[0]
    return np.asarray(scaled / np.repeat([1.0, LENGTH_MM], 3), dtype=np.float64)
