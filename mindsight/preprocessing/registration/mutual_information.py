"""Mutual information of two images at a pose, over points of one of them.

Knows nothing of how poses are searched. Whatever maps one image's grey values to the other's is allowed, so contrasts
may differ or be inverted.

References: P. Viola, W. Wells, "Alignment by maximization of mutual information", IJCV 24(2), 1997; F. Maes et al.,
"Multimodality image registration by maximization of mutual information", IEEE Trans. Medical Imaging 16(2), 1997
(the joint histogram; here each sample is shared out linearly between neighbouring bins, so that the figure changes
smoothly with the pose).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mindsight.preprocessing.motion.spline import FloatArray, sample_points

Float64Array = NDArray[np.float64]

N_BINS = 16


@njit(cache=True, nogil=True)
def _information(
    a_N: FloatArray, b_N: FloatArray, points_N3: Float64Array, m: Float64Array, shape_3: Float64Array
) -> tuple[float, float]:
    """Mutual information (nats) of two sets of bin positions, and the sum of weights it rests on.

    A point counts in full inside the grid (m @ [point, 1], (3, 4), in voxels), less and less over its outermost voxel.
    """
    joint = np.zeros((N_BINS, N_BINS))
    total = 0.0
    for n in range(a_N.shape[0]):
        weight = 1.0
        for axis in range(3):
            x = m[axis, 0] * points_N3[n, 0] + m[axis, 1] * points_N3[n, 1] + m[axis, 2] * points_N3[n, 2] + m[axis, 3]
            room = min(x, shape_3[axis] - 1.0 - x) + 0.5
            weight *= min(max(room, 0.0), 1.0)
        if not weight > 0.0:
            continue
        total += weight
        i, j = int(a_N[n]), int(b_N[n])
        s, t = np.float64(a_N[n]) - i, np.float64(b_N[n]) - j
        joint[i, j] += weight * (1.0 - s) * (1.0 - t)
        joint[i, j + 1] += weight * (1.0 - s) * t
        joint[i + 1, j] += weight * s * (1.0 - t)
        joint[i + 1, j + 1] += weight * s * t
    if not total > 0.0:
        return 0.0, 0.0
    of_a, of_b = np.zeros(N_BINS), np.zeros(N_BINS)
    for i in range(N_BINS):
        for j in range(N_BINS):
            of_a[i] += joint[i, j]
            of_b[j] += joint[i, j]
    value = 0.0
    for i in range(N_BINS):
        for j in range(N_BINS):
            if joint[i, j] > 0.0:
                value += joint[i, j] * math.log(joint[i, j] * total / (of_a[i] * of_b[j]))
    return value / total, total


@njit(cache=True, nogil=True)
def _to_bins(values_N: FloatArray, low: np.float32, scale: np.float32) -> None:
    """In place: values -> positions among the bins, 0 to just under N_BINS - 1."""
    top = np.float32(N_BINS - 1.001)
    for n in range(values_N.shape[0]):
        at = (values_N[n] - low) * scale
        values_N[n] = min(max(at, np.float32(0.0)), top)


@dataclass(frozen=True, slots=True)
class Image:
    """One image at one resolution.

    coef : B-spline coefficients with their margins; to_voxel : (4, 4) mm -> voxel; low, high : the range its bins cover
    """

    coef: FloatArray
    to_voxel: Float64Array
    low: float
    high: float

    def bins(self, to_mm: Float64Array, points_N3: Float64Array) -> tuple[FloatArray, Float64Array]:
        """Bin positions at points, given their way (4, 4) into this image's mm; and that way into voxels, (3, 4)."""
        matrix = np.ascontiguousarray((self.to_voxel @ to_mm)[:3])
        values_N = sample_points(self.coef, matrix, points_N3)
        _to_bins(values_N, np.float32(self.low), np.float32((N_BINS - 1.001) / max(self.high - self.low, 1e-12)))
        return values_N, matrix


class Comparison:
    """Two images of one resolution, compared at points of the first.

    fixed, moving : the images; points_N3 : (N, 3) mm of the first
    """

    def __init__(self, fixed: Image, moving: Image, points_N3: Float64Array) -> None:
        self._moving = moving
        self._points_N3 = points_N3
        self._fixed_N, _ = fixed.bins(np.eye(4), points_N3)
        self._shape_3 = np.array(moving.coef.shape) - 3.0

    def at(self, pose: Float64Array) -> tuple[float, float]:
        """Mutual information (nats) at a pose (4, 4), first's mm -> second's mm, and the share of points inside."""
        moving_N, matrix = self._moving.bins(pose, self._points_N3)
        value, inside = _information(self._fixed_N, moving_N, self._points_N3, matrix, self._shape_3)
        return value, inside / self._points_N3.shape[0]

    def score(self, pose: Float64Array) -> float:
        """Information per point, 0 for points outside, so that moving out of the field of view cannot raise it."""
        value, inside = self.at(pose)
        return value * inside
