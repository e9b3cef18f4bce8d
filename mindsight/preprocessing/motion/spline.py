"""Cubic B-spline interpolation on regular grids: prefilter, values and gradients at points.

Knows nothing of poses, brains or volumes: arrays in, arrays out. All kernels are serial and release the GIL; the order
of their sums is fixed at compile time, so the same input gives the same bits on the same machine. Other files call
only functions that take whole arrays: numba's cache of a compiled function depends on that function's file alone, and
would keep outdated code that it inlined from another file.

Reference: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6),
1999 (the recursive prefilter with pole sqrt(3) - 2, mirror boundaries).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

PAD_LOW = 1  # the four taps of a coordinate in cell i are i-1 .. i+2
_POLE = math.sqrt(3.0) - 2.0
RADIUS = 13  # |pole|^13 = 4e-8: what is cut from the impulse response is below float32


@njit(cache=True, nogil=True, inline="always")
def _mirror(i: int, n: int) -> int:
    """Index of sample i in a signal of n samples that is mirrored about its first and its last sample."""
    if n == 1:
        return 0
    period = 2 * n - 2
    i = abs(i) % period
    return period - i if i >= n else i


@njit(cache=True, nogil=True, fastmath={"contract"})
def _filter_lines(values: FloatArray, out: FloatArray, taps: FloatArray) -> None:
    """Convolve each line of values (R, n) with the symmetric impulse response ``taps`` (14,); mirror boundaries.

    A recursion along the contiguous axis cannot be vectorised, a short convolution can, and written out term by term it
    keeps its sum in registers.
    """
    rows, n = values.shape
    t0, t1, t2, t3, t4, t5, t6 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6]
    t7, t8, t9, t10, t11, t12, t13 = taps[7], taps[8], taps[9], taps[10], taps[11], taps[12], taps[13]
    line = np.empty(n + 2 * RADIUS, np.float32)
    before = np.array([RADIUS + _mirror(i - RADIUS, n) for i in range(RADIUS)])
    after = np.array([RADIUS + _mirror(n + i, n) for i in range(RADIUS)])
    for row in range(rows):
        for i in range(n):
            line[RADIUS + i] = values[row, i]
        for i in range(RADIUS):
            line[i] = line[before[i]]
            line[RADIUS + n + i] = line[after[i]]
        for i in range(n):
            out[row, i] = (
                t0 * line[i + 13]
                + t1 * (line[i + 12] + line[i + 14])
                + t2 * (line[i + 11] + line[i + 15])
                + t3 * (line[i + 10] + line[i + 16])
                + t4 * (line[i + 9] + line[i + 17])
                + t5 * (line[i + 8] + line[i + 18])
                + t6 * (line[i + 7] + line[i + 19])
                + t7 * (line[i + 6] + line[i + 20])
                + t8 * (line[i + 5] + line[i + 21])
                + t9 * (line[i + 4] + line[i + 22])
                + t10 * (line[i + 3] + line[i + 23])
                + t11 * (line[i + 2] + line[i + 24])
                + t12 * (line[i + 1] + line[i + 25])
                + t13 * (line[i + 0] + line[i + 26])
            )


@njit(cache=True, nogil=True, fastmath={"contract"})
def _filter_outer(data: FloatArray, pole: np.float32, gain: np.float32) -> None:
    """The recursive prefilter along the first axis of data (n, m), in place; vectorised over the second."""
    n, m = data.shape
    if n == 1:
        return
    first = np.zeros(m, np.float32)
    weight = np.float32(1.0)
    for k in range(RADIUS + 1):
        source = data[_mirror(k, n)]
        for j in range(m):
            first[j] += weight * source[j]
        weight *= pole
    for j in range(m):
        data[0, j] = gain * first[j]
    for i in range(1, n):
        here = data[i]
        before = data[i - 1]
        for j in range(m):
            here[j] = gain * here[j] + pole * before[j]
    last = data[n - 1]
    before = data[n - 2]
    end = pole / (pole * pole - np.float32(1.0))
    for j in range(m):
        last[j] = end * (last[j] + pole * before[j])
    for i in range(n - 2, -1, -1):
        here = data[i]
        after = data[i + 1]
        for j in range(m):
            here[j] = pole * (after[j] - here[j])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _prefilter(values: FloatArray, padded: FloatArray, taps: FloatArray, pole: np.float32, gain: np.float32) -> None:
    """Fill padded slab by slab (each stays in cache for its z and y passes), then filter across slabs."""
    nx, ny, nz = values.shape
    slab = np.empty((ny, nz), np.float32)
    for i in range(nx):
        _filter_lines(values[i], slab, taps)
        _filter_outer(slab, pole, gain)
        for j in range(ny):
            row = padded[i + PAD_LOW, j + PAD_LOW]
            for k in range(nz):
                row[k + PAD_LOW] = slab[j, k]
            row[0] = slab[j, _mirror(-1, nz)]
            row[nz + 1] = slab[j, _mirror(nz, nz)]
            row[nz + 2] = slab[j, _mirror(nz + 1, nz)]
        padded[i + PAD_LOW, 0] = padded[i + PAD_LOW, PAD_LOW + _mirror(-1, ny)]
        padded[i + PAD_LOW, ny + 1] = padded[i + PAD_LOW, PAD_LOW + _mirror(ny, ny)]
        padded[i + PAD_LOW, ny + 2] = padded[i + PAD_LOW, PAD_LOW + _mirror(ny + 1, ny)]
    _filter_outer(padded[PAD_LOW : PAD_LOW + nx].reshape(nx, (ny + 3) * (nz + 3)), pole, gain)
    padded[0] = padded[PAD_LOW + _mirror(-1, nx)]
    padded[nx + 1] = padded[PAD_LOW + _mirror(nx, nx)]
    padded[nx + 2] = padded[PAD_LOW + _mirror(nx + 1, nx)]


def _impulse_response(n: int) -> FloatArray:
    """One side of the impulse response of the inverse of [1, 4, 1] / 6; the identity's for a single sample."""
    taps = -6.0 * _POLE / (1.0 - _POLE * _POLE) * _POLE ** np.arange(RADIUS + 1)
    return (taps if n > 1 else np.eye(1, RADIUS + 1)[0]).astype(np.float32)


def prefilter(values_XYZ: FloatArray) -> FloatArray:
    """B-spline coefficients (X+3, Y+3, Z+3) of a C-contiguous (X, Y, Z) float32 array, with their mirrored margins.

    Equal to ``scipy.ndimage.spline_filter(order=3, mode="mirror")`` to float32 precision.
    """
    nx, ny, nz = values_XYZ.shape
    padded = np.empty((nx + 3, ny + 3, nz + 3), np.float32)
    _prefilter(values_XYZ, padded, _impulse_response(nz), np.float32(_POLE), np.float32(6.0))
    return padded


_INT = ir.IntType(32)
_FOUR = ir.VectorType(ir.FloatType(), 4)
_CONTRACT = ["contract"]  # a multiply-add may be one instruction; the order of operations stays


def _unpack(builder: Any, four: Any) -> list[Any]:
    return [builder.extract_value(four, i) for i in range(4)]


def _vector(builder: Any, values: list[Any]) -> Any:
    out = ir.Constant(_FOUR, ir.Undefined)
    for i, value in enumerate(values):
        out = builder.insert_element(out, value, _INT(i))
    return out


def _add_product(builder: Any, total: Any, weight: Any, values: Any) -> Any:
    product = builder.fmul(_vector(builder, [weight] * 4), values, flags=_CONTRACT)
    return product if total is None else builder.fadd(product, total, flags=_CONTRACT)


def _weighted_sum(
    typing_context: Any, coef: Any, offset: Any, stride_x: Any, stride_y: Any, w_x: Any, w_y: Any, w_z: Any
) -> Any:
    """Sum over p, q, r of w_x[p] w_y[q] w_z[r] coef.flat[offset + p stride_x + q stride_y + r].

    coef : C-contiguous float32 array; offset and strides in elements; w_x, w_y, w_z : tuples of four float32

    As sixteen loads of four and multiply-adds of four, in LLVM's terms because the compiler does not find this form by
    itself (1.5 times slower from loops).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, step_x, step_y, *weights = arguments
        plane = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [start])
        over_x, over_y, over_z = (_unpack(builder, four) for four in weights)
        total = None
        for weight_x in over_x:
            row, rows = plane, None
            for weight_y in over_y:
                values = builder.load(builder.bitcast(row, ir.PointerType(_FOUR)), align=4)
                rows = _add_product(builder, rows, weight_y, values)
                row = builder.gep(row, [step_y])
            total = _add_product(builder, total, weight_x, rows)
            plane = builder.gep(plane, [step_x])
        a, b, c, d = (builder.extract_element(builder.fmul(total, _vector(builder, over_z)), _INT(i)) for i in range(4))
        return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))

    return types.float32(coef, offset, stride_x, stride_y, w_x, w_y, w_z), generate


weighted_sum: Any = intrinsic(_weighted_sum)


@njit(cache=True, nogil=True, inline="always")
def _clamp(c: float, n: int) -> float:
    """c within a grid of n samples; 0 if it is not a number, so that no index ever leaves the array."""
    c = c if c > 0.0 else 0.0
    return c if c < n - 1.0 else n - 1.0


@njit(cache=True, nogil=True, inline="always", fastmath={"contract"})
def _weights(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """The four cubic B-spline weights at offset t in [0, 1) from the second tap."""
    sixth = np.float32(1.0 / 6.0)
    one = np.float32(1.0)
    s = one - t
    w0 = s * s * s * sixth
    w3 = t * t * t * sixth
    w1 = np.float32(2.0 / 3.0) - t * t * (one - np.float32(0.5) * t)
    w2 = one - w0 - w1 - w3
    return w0, w1, w2, w3


@njit(cache=True, nogil=True, inline="always", fastmath={"contract"})
def _slopes(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Derivatives of the four weights with respect to t."""
    half = np.float32(0.5)
    s = np.float32(1.0) - t
    d0 = -half * s * s
    d3 = half * t * t
    d1 = t * (np.float32(1.5) * t - np.float32(2.0))
    d2 = -d0 - d1 - d3
    return d0, d1, d2, d3


@njit(cache=True, nogil=True, inline="always", fastmath={"contract"})
def _interpolate(coef: FloatArray, x: float, y: float, z: float) -> np.float32:
    """Value at voxel coordinates (x, y, z); outside of the grid the edge repeats."""
    x = _clamp(x, coef.shape[0] - 3)
    y = _clamp(y, coef.shape[1] - 3)
    z = _clamp(z, coef.shape[2] - 3)
    i, j, k = int(x), int(y), int(z)
    stride_y = coef.shape[2]
    stride_x = stride_y * coef.shape[1]
    w_x, w_y, w_z = _weights(np.float32(x - i)), _weights(np.float32(y - j)), _weights(np.float32(z - k))
    value: np.float32 = weighted_sum(coef, i * stride_x + j * stride_y + k, stride_x, stride_y, w_x, w_y, w_z)
    return value


@njit(cache=True, nogil=True, inline="always", fastmath={"contract"})
def _transform(m: NDArray[np.float64], a: float, b: float, c: float) -> tuple[float, float, float]:
    return (
        m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3],
        m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3],
        m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3],
    )


@njit(cache=True, nogil=True, fastmath={"contract"})
def gradient_voxels(coef: FloatArray, m: NDArray[np.float64], ijk_V3: NDArray[np.int16]) -> FloatArray:
    """(V, 4) values and derivatives along the coefficients' voxel axes at m @ [i, j, k, 1], m (3, 4)."""
    out = np.empty((ijk_V3.shape[0], 4), np.float32)
    stride_y = coef.shape[2]
    stride_x = stride_y * coef.shape[1]
    for v in range(ijk_V3.shape[0]):
        x, y, z = _transform(m, np.float64(ijk_V3[v, 0]), np.float64(ijk_V3[v, 1]), np.float64(ijk_V3[v, 2]))
        x = _clamp(x, coef.shape[0] - 3)
        y = _clamp(y, coef.shape[1] - 3)
        z = _clamp(z, coef.shape[2] - 3)
        i, j, k = int(x), int(y), int(z)
        at = i * stride_x + j * stride_y + k
        t_x, t_y, t_z = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        w_x, w_y, w_z = _weights(t_x), _weights(t_y), _weights(t_z)
        out[v, 0] = weighted_sum(coef, at, stride_x, stride_y, w_x, w_y, w_z)
        out[v, 1] = weighted_sum(coef, at, stride_x, stride_y, _slopes(t_x), w_y, w_z)
        out[v, 2] = weighted_sum(coef, at, stride_x, stride_y, w_x, _slopes(t_y), w_z)
        out[v, 3] = weighted_sum(coef, at, stride_x, stride_y, w_x, w_y, _slopes(t_z))
    return out


@njit(cache=True, nogil=True, fastmath={"contract"})
def sample_nearest(
    coef: FloatArray,
    there: NDArray[np.float64],
    back: NDArray[np.float64],
    back_mm: NDArray[np.float64],
    ijk_N3: NDArray[np.int16],
    values_XYZ: FloatArray,
    slice_axis: int,
    keep_Z: NDArray[np.bool_],
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int16], NDArray[np.int32]]:
    """For the voxels x nearest to there @ [i, j, k, 1] that are on the grid of values and in a slice to keep:

    the interpolated value at back @ x (K,), the value itself (K,), back_mm @ x (K, 3), the slice (K,), which row of ijk
    it was (K,). All matrices (3, 4); back: voxels of values -> voxel coordinates of the coefficients.
    """
    n_points = ijk_N3.shape[0]
    interpolated, values = np.empty(n_points, np.float32), np.empty(n_points, np.float32)
    xyz, slices, rows = np.empty((n_points, 3), np.float32), np.empty(n_points, np.int16), np.empty(n_points, np.int32)
    nx, ny, nz = values_XYZ.shape
    kept = 0
    for n in range(n_points):
        a, b, c = _transform(there, np.float64(ijk_N3[n, 0]), np.float64(ijk_N3[n, 1]), np.float64(ijk_N3[n, 2]))
        if not (-0.5 <= a < nx - 0.5 and -0.5 <= b < ny - 0.5 and -0.5 <= c < nz - 0.5):
            continue
        i, j, k = int(a + 0.5), int(b + 0.5), int(c + 0.5)
        z = k if slice_axis == 2 else i
        if not keep_Z[z]:
            continue
        a, b, c = np.float64(i), np.float64(j), np.float64(k)
        values[kept] = values_XYZ[i, j, k]
        slices[kept] = z
        rows[kept] = n
        xyz[kept, 0], xyz[kept, 1], xyz[kept, 2] = _transform(back_mm, a, b, c)
        a, b, c = _transform(back, a, b, c)
        interpolated[kept] = _interpolate(coef, a, b, c)
        kept += 1
    return interpolated[:kept], values[:kept], xyz[:kept], slices[:kept], rows[:kept]


@njit(cache=True, nogil=True, fastmath={"contract"})
def sample_points(coef: FloatArray, m: NDArray[np.float64], points_V3: NDArray[np.float64]) -> FloatArray:
    """(V,) values at m @ [point, 1], m (3, 4) being points -> voxel coordinates of the coefficients."""
    out = np.empty(points_V3.shape[0], np.float32)
    for v in range(points_V3.shape[0]):
        x, y, z = _transform(m, points_V3[v, 0], points_V3[v, 1], points_V3[v, 2])
        out[v] = _interpolate(coef, x, y, z)
    return out


@njit(cache=True, nogil=True, fastmath={"contract"})
def sample_inside(
    coef: FloatArray, m_P34: NDArray[np.float64], points_N3: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """(P, N) values at m @ [point, 1] for each of P matrices, and the weight of each, which ends with the grid.

    A point counts in full inside of the grid, less and less over its outermost voxel; beyond, both are 0.
    """
    n_poses, n_points = m_P34.shape[0], points_N3.shape[0]
    values, weights = np.empty((n_poses, n_points), np.float32), np.empty((n_poses, n_points), np.float32)
    last = np.array(coef.shape, np.float64) - 4.0
    for p in range(n_poses):
        m = m_P34[p]
        for n in range(n_points):
            x, y, z = _transform(m, points_N3[n, 0], points_N3[n, 1], points_N3[n, 2])
            weight = _inside(x, last[0]) * _inside(y, last[1]) * _inside(z, last[2])
            weights[p, n] = weight
            values[p, n] = _interpolate(coef, x, y, z) if weight > 0.0 else 0.0
    return values, weights


@njit(cache=True, nogil=True, inline="always")
def _inside(c: float, last: float) -> float:
    room = min(c, last - c) + 0.5
    return min(max(room, 0.0), 1.0)


@njit(cache=True, nogil=True)
def _n_true(row_Z: NDArray[np.bool_]) -> int:
    """Without a branch per voxel, so that rows without any cost next to nothing."""
    n = 0
    for k in range(row_Z.shape[0]):
        n += row_Z[k]
    return n


@njit(cache=True, nogil=True, fastmath={"contract"})
def sample_mask(coef: FloatArray, m: NDArray[np.float64], mask_XYZ: NDArray[np.bool_]) -> FloatArray:
    """(V,) values at m @ [i, j, k, 1] for the voxels in the mask, in C order."""
    nx, ny, nz = mask_XYZ.shape
    out = np.empty(mask_XYZ.sum(), np.float32)
    v = 0
    for i in range(nx):
        for j in range(ny):
            if _n_true(mask_XYZ[i, j]) == 0:
                continue
            for k in range(nz):
                if mask_XYZ[i, j, k]:
                    x, y, z = _transform(m, np.float64(i), np.float64(j), np.float64(k))
                    out[v] = _interpolate(coef, x, y, z)
                    v += 1
    return out


@njit(cache=True, nogil=True)
def mask_bounds(mask_XYZ: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(2, 3) lowest and highest indices of the voxels in the mask; low above high if there are none."""
    nx, ny, nz = mask_XYZ.shape
    out = np.array([[nx, ny, nz], [-1, -1, -1]], np.float64)
    for i in range(nx):
        for j in range(ny):
            if _n_true(mask_XYZ[i, j]) == 0:
                continue
            for k in range(nz):
                if mask_XYZ[i, j, k]:
                    out[0, 0], out[1, 0] = min(out[0, 0], i), max(out[1, 0], i)
                    out[0, 1], out[1, 1] = min(out[0, 1], j), max(out[1, 1], j)
                    out[0, 2], out[1, 2] = min(out[0, 2], k), max(out[1, 2], k)
    return out


@njit(cache=True, nogil=True, fastmath={"contract"})
def sample_grid(coef: FloatArray, m: NDArray[np.float64], out_XYZ: FloatArray) -> None:
    """Fill out with the values at m @ [i, j, k, 1], m (3, 4) being out's voxels -> voxels of the coefficients."""
    nx, ny, nz = out_XYZ.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                x, y, z = _transform(m, np.float64(i), np.float64(j), np.float64(k))
                out_XYZ[i, j, k] = _interpolate(coef, x, y, z)
