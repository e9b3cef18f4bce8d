"""The reference linearised at one pose: six numbers of pose from one weighted sum over the incoming voxels.

Knows nothing of sessions or of what comes next; see realign.py for when it is used.

The incoming volume v is never interpolated. With S the pose (volume mm -> reference mm) and x_i the volume's voxels,

    v[x_i] = gain reference(exp(theta) S x_i) + nuisance + noise

and the step is theta = P v / gain - F(theta), F(theta) = P reference(exp(theta) S x), with the (6, N) matrix

    J_s = derivatives of the SMOOTHED reference by theta     (instrument)
    J_r = derivatives of the reference itself
    N   = [1, R, R u, R u u'] (11 columns, R = reference at S x, u = position): offset, gain and receive field
    J   = J_s - N (N'N)^-1 N'J_s ,   P = (J'J_r)^-1 J'

Why an instrument: the derivative of a noisy image is noisy in the same voxels as the residual, which biases ordinary
least squares (errors in variables). A regressor that correlates with the signal but not with that noise removes the
bias (instrumental variables; e.g. J. Wooldridge, "Econometric Analysis of Cross Section and Panel Data", 2010,
chapter 5). P N = 0: drift and a receive field that stays with the scanner do not move the estimate.

F depends on the reference and the pose only, not on the volume, and its derivative stays close to 1. So the last
volume's F is where the next volume starts: its first step costs the weighted sum P v alone (no interpolation, N
multiply-adds for each of six numbers), and one evaluation of F at the predicted pose leaves an error of second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing.memory import Grid
from mindsight.preprocessing.spline import FloatArray, gradient_voxels, sample_voxels
from mindsight.preprocessing.survey import Survey, survey

Float64Array = NDArray[np.float64]

N_NUISANCE = 11
LENGTH_MM = 50.0  # unit of positions in the nuisance columns, for a well-conditioned system
SURVEY_VOXELS = 8192
MIN_SLOPE = 1e-4  # of the value per mm, root mean square: a real head has 1e-2 and more


@njit(cache=True, nogil=True, fastmath={"contract"})
def _derivatives(
    raw_N4: FloatArray,
    smooth_N4: FloatArray,
    ijk_N3: NDArray[np.int16],
    to_mm: Float64Array,
    gradient_to_mm: Float64Array,
) -> FloatArray:
    """(N, 16) columns R, position y (3), J_s (6), J_r (6), from values and gradients of the two references.

    to_mm (3, 4): volume voxel -> reference mm from the centre; gradient_to_mm (3, 3): of voxels -> of mm.
    """
    g = gradient_to_mm
    out = np.empty((ijk_N3.shape[0], 16), np.float32)
    for n in range(ijk_N3.shape[0]):
        a, b, c = np.float64(ijk_N3[n, 0]), np.float64(ijk_N3[n, 1]), np.float64(ijk_N3[n, 2])
        x = to_mm[0, 0] * a + to_mm[0, 1] * b + to_mm[0, 2] * c + to_mm[0, 3]
        y = to_mm[1, 0] * a + to_mm[1, 1] * b + to_mm[1, 2] * c + to_mm[1, 3]
        z = to_mm[2, 0] * a + to_mm[2, 1] * b + to_mm[2, 2] * c + to_mm[2, 3]
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = raw_N4[n, 0], x, y, z
        for which in range(2):
            row = smooth_N4[n] if which == 0 else raw_N4[n]
            gx = g[0, 0] * row[1] + g[0, 1] * row[2] + g[0, 2] * row[3]
            gy = g[1, 0] * row[1] + g[1, 1] * row[2] + g[1, 2] * row[3]
            gz = g[2, 0] * row[1] + g[2, 1] * row[2] + g[2, 2] * row[3]
            column = 4 + 6 * which
            out[n, column], out[n, column + 1], out[n, column + 2] = gx, gy, gz
            out[n, column + 3], out[n, column + 4], out[n, column + 5] = (
                y * gz - z * gy,
                z * gx - x * gz,
                x * gy - y * gx,
            )
    return out


@njit(cache=True, nogil=True, inline="always")
def _nuisance(row: FloatArray, value_scale: float, length_scale: float, out_11: Float64Array) -> None:
    r = row[0] * value_scale
    x, y, z = row[1] * length_scale, row[2] * length_scale, row[3] * length_scale
    out_11[0] = 1.0
    out_11[1] = r
    out_11[2], out_11[3], out_11[4] = r * x, r * y, r * z
    out_11[5], out_11[6], out_11[7] = r * x * x, r * y * y, r * z * z
    out_11[8], out_11[9], out_11[10] = r * x * y, r * x * z, r * y * z


@njit(cache=True, nogil=True, fastmath={"contract"})
def _moments(rows_NC: FloatArray, value_scale: float, length_scale: float) -> tuple[Float64Array, Float64Array]:
    """N'[N, J_s, J_r] (11, 23) and J_s'J_r (6, 6), summed in row order."""
    n_columns = N_NUISANCE + 12
    cross = np.zeros((N_NUISANCE, n_columns))
    between = np.zeros((6, 6))
    wide = np.empty(n_columns)
    for n in range(rows_NC.shape[0]):
        _nuisance(rows_NC[n], value_scale, length_scale, wide)
        for c in range(12):
            wide[N_NUISANCE + c] = rows_NC[n, 4 + c]
        for a in range(N_NUISANCE):
            left = wide[a]
            for c in range(n_columns):
                cross[a, c] += left * wide[c]
        for a in range(6):
            left = wide[N_NUISANCE + a]
            for c in range(6):
                between[a, c] += left * wide[N_NUISANCE + 6 + c]
    return cross, between


@njit(cache=True, nogil=True, fastmath={"contract"})
def _estimator(
    rows_NC: FloatArray,
    value_scale: float,
    length_scale: float,
    solve_66: Float64Array,
    regress_11_6: Float64Array,
    out_N6: FloatArray,
) -> None:
    """P' (N, 6): rows of (J_s - N B) solve'."""
    wide = np.empty(N_NUISANCE)
    rest = np.empty(6)
    for n in range(rows_NC.shape[0]):
        _nuisance(rows_NC[n], value_scale, length_scale, wide)
        for c in range(6):
            total: float = np.float64(rows_NC[n, 4 + c])
            for a in range(N_NUISANCE):
                total -= wide[a] * regress_11_6[a, c]
            rest[c] = total
        for a in range(6):
            total = 0.0
            for c in range(6):
                total += solve_66[a, c] * rest[c]
            out_N6[n, a] = total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _weighted_sums(values_N: FloatArray, p_N6: FloatArray) -> Float64Array:
    """P values: (6,)."""
    a0 = a1 = a2 = a3 = a4 = a5 = 0.0
    for n in range(values_N.shape[0]):
        value = np.float64(values_N[n])
        a0 += value * p_N6[n, 0]
        a1 += value * p_N6[n, 1]
        a2 += value * p_N6[n, 2]
        a3 += value * p_N6[n, 3]
        a4 += value * p_N6[n, 4]
        a5 += value * p_N6[n, 5]
    return np.array([a0, a1, a2, a3, a4, a5])


@dataclass(frozen=True, slots=True)
class Frame:
    """The reference as the kernels want it.

    coef, smooth : padded B-spline coefficients, raw and smoothed
    affine : (4, 4) voxel of the coefficients -> reference mm
    centre_mm : (3,) what rotations turn about
    """

    coef: FloatArray
    smooth: FloatArray
    affine: Float64Array
    centre_mm: Float64Array


class Linearisation:
    """P and F at one pose, for volumes of one grid.

    pose : (4, 4) volume mm -> reference mm
    grid : of the volumes, in memory order
    ijk_N3, index_N : the voxels used, as indices and as offsets into the flat volume

    Raises BadVolume (``motion.featureless``) where the reference does not determine six parameters.
    """

    def __init__(
        self,
        frame: Frame,
        pose: Float64Array,
        grid: Grid,
        ijk_N3: NDArray[np.int16],
        index_N: NDArray[np.intp],
    ) -> None:
        self.pose = pose
        self._frame = frame
        self._grid = grid
        self._ijk_N3 = ijk_N3
        self._index_N = index_N
        every = max(1, index_N.shape[0] // SURVEY_VOXELS)
        self._survey_V3, self._survey_index_V = np.ascontiguousarray(ijk_N3[::every]), index_N[::every].copy()
        to_mm = np.ascontiguousarray((pose @ grid.affine)[:3], dtype=np.float64)
        to_mm[:, 3] -= frame.centre_mm
        gradient = np.ascontiguousarray(np.linalg.inv(frame.affine[:3, :3]).T, dtype=np.float64)
        to_voxel = self._to_voxel(pose)
        raw_N4 = gradient_voxels(frame.coef, to_voxel, ijk_N3)
        smooth_N4 = gradient_voxels(frame.smooth, to_voxel, ijk_N3)
        rows_NC = _derivatives(raw_N4, smooth_N4, ijk_N3, to_mm, gradient)
        value_scale = 1.0 / max(float(np.abs(rows_NC[:, 0]).mean()), 1e-12)
        cross, between = _moments(rows_NC, value_scale, 1.0 / LENGTH_MM)
        k = N_NUISANCE
        regress = np.asarray(np.linalg.lstsq(cross[:, :k], cross[:, k : k + 6], rcond=None)[0], dtype=np.float64)
        information = between - regress.T @ cross[:, k + 6 :]
        # Mean squared slope per mm (and per LENGTH_MM of arc), relative to the mean value.
        slopes = np.diag(information) * (value_scale / np.r_[1, 1, 1, [LENGTH_MM] * 3]) ** 2 / ijk_N3.shape[0]
        if not slopes.min() > MIN_SLOPE**2:
            raise BadVolume(
                "expected a reference with structure in all directions, got one that does not determine a pose",
                code="motion.featureless",
            )
        solve = np.asarray(np.linalg.inv(information), dtype=np.float64)
        self._p_N6 = np.empty((ijk_N3.shape[0], 6), np.float32)
        _estimator(rows_NC, value_scale, 1.0 / LENGTH_MM, solve, regress, self._p_N6)

    def _to_voxel(self, pose: Float64Array) -> Float64Array:
        """(3, 4) volume voxel -> reference voxel."""
        matrix = np.linalg.inv(self._frame.affine) @ pose @ self._grid.affine
        return np.ascontiguousarray(matrix[:3], dtype=np.float64)

    def project(self, flat: FloatArray) -> Float64Array:
        """P v (6,)."""
        return _weighted_sums(flat[self._index_N], self._p_N6)

    def predicted(self, pose: Float64Array) -> Float64Array:
        """P reference(pose x) (6,), exactly: one interpolation of the reference at every voxel used."""
        return _weighted_sums(sample_voxels(self._frame.coef, self._to_voxel(pose), self._ijk_N3), self._p_N6)

    def survey(self, flat: FloatArray, pose: Float64Array) -> Survey:
        """How well the reference at ``pose`` explains the volume, slice by slice."""
        reference_V = sample_voxels(self._frame.coef, self._to_voxel(pose), self._survey_V3)
        slice_V = self._survey_V3[:, self._grid.slice_axis]
        return survey(reference_V, flat[self._survey_index_V], slice_V, self._grid.n_slices)
