"""A pose from far away: Gauss-Newton on block means, coarse level first.

Knows nothing of warm starts or of what is done with the pose; accurate to a fraction of a millimetre. Used when the
head jumped or no pose is known yet. The reference is differentiated again in every step (cheap with few points), and
offset and gain are fitted together with the motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.spline import FloatArray, gradient_voxels, prefilter

Float64Array = NDArray[np.float64]

LEVELS_MM = (8.0, 4.0)  # edge of a block; also the smoothing's full width
STEPS = 20
SETTLED_MM = 0.05
MAX_STEP_MM = 20.0
MIN_INSIDE = 50  # voxels that must overlap


@njit(cache=True, nogil=True)
def _block_means(values: FloatArray, out: FloatArray, fx: int, fy: int, fz: int) -> None:
    scale = np.float32(1.0 / (fx * fy * fz))
    out[:] = np.float32(0.0)
    nx, ny, nz = out.shape
    for i in range(nx * fx):
        for j in range(ny * fy):
            row = out[i // fx, j // fy]
            line = values[i, j]
            for k in range(nz):
                total = np.float32(0.0)
                for c in range(fz):
                    total += np.float32(line[k * fz + c])
                row[k] += total * scale


@njit(cache=True, nogil=True, fastmath={"contract"})
def _normal_equations(
    rows_N4: FloatArray,
    values_N: FloatArray,
    ijk_N3: NDArray[np.int16],
    to_voxel: Float64Array,
    limit_3: Float64Array,
    to_mm: Float64Array,
    gradient_to_mm: Float64Array,
    scale: float,
) -> tuple[Float64Array, Float64Array, float, int]:
    """A'A (8, 8), A'b (8,) and b'b of volume = offset + gain reference(exp(theta) S x), and the voxels inside.

    rows_N4 : value and gradient of the reference at each voxel; limit_3 : the reference's last index on each axis
    """
    t, g = to_voxel, gradient_to_mm
    ata = np.zeros((8, 8))
    atb = np.zeros(8)
    btb = 0.0
    inside = 0
    row = np.empty(8)
    for n in range(ijk_N3.shape[0]):
        i, j, k = np.float64(ijk_N3[n, 0]), np.float64(ijk_N3[n, 1]), np.float64(ijk_N3[n, 2])
        x = t[0, 0] * i + t[0, 1] * j + t[0, 2] * k + t[0, 3]
        y = t[1, 0] * i + t[1, 1] * j + t[1, 2] * k + t[1, 3]
        z = t[2, 0] * i + t[2, 1] * j + t[2, 2] * k + t[2, 3]
        if min(x, y, z) < -0.5 or x > limit_3[0] + 0.5 or y > limit_3[1] + 0.5 or z > limit_3[2] + 0.5:
            continue
        px = to_mm[0, 0] * i + to_mm[0, 1] * j + to_mm[0, 2] * k + to_mm[0, 3]
        py = to_mm[1, 0] * i + to_mm[1, 1] * j + to_mm[1, 2] * k + to_mm[1, 3]
        pz = to_mm[2, 0] * i + to_mm[2, 1] * j + to_mm[2, 2] * k + to_mm[2, 3]
        value, u, v, w = rows_N4[n]
        gx = (g[0, 0] * u + g[0, 1] * v + g[0, 2] * w) * scale
        gy = (g[1, 0] * u + g[1, 1] * v + g[1, 2] * w) * scale
        gz = (g[2, 0] * u + g[2, 1] * v + g[2, 2] * w) * scale
        row[0], row[1], row[2] = gx, gy, gz
        row[3], row[4], row[5] = py * gz - pz * gy, pz * gx - px * gz, px * gy - py * gx
        row[6], row[7] = 1.0, value * scale
        b = values_N[n] * scale
        inside += 1
        btb += b * b
        for p in range(8):
            atb[p] += row[p] * b
            for q in range(p + 1):
                ata[p, q] += row[p] * row[q]
    for p in range(8):
        for q in range(p):
            ata[q, p] = ata[p, q]
    return ata, atb, btb, inside


@dataclass(frozen=True, slots=True)
class _Level:
    block_mm: float
    coef: FloatArray
    affine: Float64Array


def smoothed_blocks(values: FloatArray, affine: Float64Array, block_mm: float) -> tuple[FloatArray, Float64Array]:
    """Block means of about ``block_mm``, smoothed by as much again, and their affine."""
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    factors = [max(1, min(round(block_mm / mm), n // 4)) for mm, n in zip(voxel_mm.tolist(), values.shape, strict=True)]
    out = np.empty([n // f for n, f in zip(values.shape, factors, strict=True)], np.float32)
    _block_means(values, out, *factors)
    reduced = affine.copy()
    reduced[:3, :3] = affine[:3, :3] * factors
    reduced[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((np.array(factors) - 1.0) / 2.0)
    sigma = block_mm / 2.3548 / (voxel_mm * factors)
    return ndimage.gaussian_filter(out, sigma, mode="nearest", truncate=3.0), reduced


class CoarseSearch:
    """Poses near enough for the fine estimate, from up to 12 mm and 12 degrees away.

    values, affine : the reference in memory order; centre_mm : centre of rotations
    """

    def __init__(self, values: FloatArray, affine: Float64Array, centre_mm: Float64Array) -> None:
        self._centre_mm = centre_mm
        self._levels = []
        for block_mm in LEVELS_MM:
            reduced, reduced_affine = smoothed_blocks(values, affine, block_mm)
            self._levels.append(_Level(block_mm, prefilter(reduced), reduced_affine))

    def find(self, values: FloatArray, affine: Float64Array, start: Float64Array) -> Float64Array:
        """The pose (4, 4), volume mm -> reference mm, reached from ``start``; ``start`` itself if none is better."""
        pose = start
        for level in self._levels:
            reduced, reduced_affine = smoothed_blocks(values, affine, level.block_mm)
            pose = self._descend(level, reduced, reduced_affine, pose)
        return pose

    def _descend(self, level: _Level, volume: FloatArray, affine: Float64Array, start: Float64Array) -> Float64Array:
        to_voxel = np.linalg.inv(level.affine)
        gradient = np.ascontiguousarray(np.linalg.inv(level.affine[:3, :3]).T)
        scale = 1.0 / max(float(np.abs(volume).max()), 1e-12)
        limit_3 = np.array(level.coef.shape) - 4.0  # margins of three, last index one less than the number
        ijk_N3 = np.ascontiguousarray(np.indices(volume.shape, np.int16).reshape(3, -1).T)
        pose, best = start, np.inf
        candidate, damping = start, 1e-4
        for _ in range(STEPS):
            matrix = candidate @ affine
            to_mm = matrix[:3].copy()
            to_mm[:, 3] -= self._centre_mm
            there = np.ascontiguousarray((to_voxel @ matrix)[:3])
            rows_N4 = gradient_voxels(level.coef, there, ijk_N3)
            ata, atb, btb, inside = _normal_equations(
                rows_N4, volume.reshape(-1), ijk_N3, there, limit_3, to_mm, gradient, scale
            )
            error = _left_over(ata, atb, btb, inside)
            if error < best:
                pose, best = candidate, error
                lhs, rhs = ata, atb
                damping = max(damping / 4.0, 1e-6)
            else:
                damping *= 16.0
            if not np.isfinite(best) or damping > 1e3:
                break
            step = _solve(lhs, rhs, damping)
            if not np.isfinite(step).all() or _size_mm(step) < SETTLED_MM:
                break
            candidate = rigid.exponential(step, self._centre_mm) @ pose
        return pose


def _left_over(ata: Float64Array, atb: Float64Array, btb: float, inside: int) -> float:
    """Share of the volume's variance that offset and gain leave at this pose; infinite if little overlaps."""
    if inside < MIN_INSIDE:
        return float("inf")
    n, mean_b = ata[6, 6], atb[6] / inside
    mean_r = ata[7, 6] / n
    rr = ata[7, 7] - n * mean_r**2
    vv = btb - n * mean_b**2
    rv = atb[7] - n * mean_r * mean_b
    if rr <= 0.0 or vv <= 0.0 or rv <= 0.0:
        return 1.0
    return float(1.0 - rv * rv / (rr * vv))


def _solve(ata: Float64Array, atb: Float64Array, damping: float) -> Float64Array:
    """The twist (6,) of a damped step; gain is taken out of the derivative of gain x reference."""
    nuisance = np.linalg.solve(ata[6:, 6:] + 1e-12 * np.eye(2), atb[6:])
    gain = max(float(nuisance[1]), 1e-3)
    damped = ata + np.diag(np.r_[damping * np.diag(ata)[:6] + 1e-12, 1e-12, 1e-12])
    step = np.linalg.solve(damped, atb)[:6] / gain
    limited: Float64Array = step * min(1.0, MAX_STEP_MM / max(_size_mm(step), 1e-12))
    return limited


def _size_mm(twist: Float64Array) -> float:
    return float(np.linalg.norm(twist[:3]) + rigid.LEVER_MM * np.linalg.norm(twist[3:]))
