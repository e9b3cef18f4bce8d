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

from mindsight.preprocessing.motion.spline import FloatArray, sample_inside, sample_points

Float64Array = NDArray[np.float64]

N_BINS = 16
TOP = N_BINS - 1.001  # just under the last bin


@njit(cache=True, nogil=True)
def _information(
    a_N: FloatArray, values_PN: FloatArray, weights_PN: FloatArray, low: float, scale: float
) -> Float64Array:
    """(P, 2) mutual information (nats) of one image's bins and the other's values, and the sum of weights it rests on.

    low, scale : of the other's values -> positions among the bins
    """
    out = np.zeros((values_PN.shape[0], 2))
    joint, of_a, of_b = np.empty((N_BINS, N_BINS)), np.empty(N_BINS), np.empty(N_BINS)
    for p in range(values_PN.shape[0]):
        joint[:] = 0.0
        total = 0.0
        for n in range(a_N.shape[0]):
            weight = np.float64(weights_PN[p, n])
            if not weight > 0.0:
                continue
            total += weight
            b = min(max((values_PN[p, n] - low) * scale, 0.0), TOP)
            i, j = int(a_N[n]), int(b)
            s, t = np.float64(a_N[n]) - i, b - j
            joint[i, j] += weight * (1.0 - s) * (1.0 - t)
            joint[i, j + 1] += weight * (1.0 - s) * t
            joint[i + 1, j] += weight * s * (1.0 - t)
            joint[i + 1, j + 1] += weight * s * t
        if not total > 0.0:
            continue
        of_a[:] = 0.0
        of_b[:] = 0.0
        for i in range(N_BINS):
            for j in range(N_BINS):
                of_a[i] += joint[i, j]
                of_b[j] += joint[i, j]
        value = 0.0
        for i in range(N_BINS):
            for j in range(N_BINS):
                if joint[i, j] > 0.0:
                    value += joint[i, j] * math.log(joint[i, j] * total / (of_a[i] * of_b[j]))
        out[p, 0], out[p, 1] = value / total, total
    return out


@dataclass(frozen=True, slots=True)
class Image:
    """One image at one resolution.

    coef : B-spline coefficients with their margins; to_voxel : (4, 4) mm -> voxel; low, high : the range its bins cover
    """

    coef: FloatArray
    to_voxel: Float64Array
    low: float
    high: float

    @property
    def scale(self) -> float:
        """Bins per unit of its values."""
        return TOP / max(self.high - self.low, 1e-12)

    def bins(self, points_N3: Float64Array) -> FloatArray:
        """(N,) positions among the bins, 0 to just under N_BINS - 1, at points in its mm."""
        values_N = sample_points(self.coef, np.ascontiguousarray(self.to_voxel[:3]), points_N3)
        return np.asarray(np.clip((values_N - np.float32(self.low)) * np.float32(self.scale), 0.0, np.float32(TOP)))


class Comparison:
    """Two images of one resolution, compared at points of the first.

    fixed, moving : the images; points_N3 : (N, 3) mm of the first
    """

    def __init__(self, fixed: Image, moving: Image, points_N3: Float64Array) -> None:
        self._moving = moving
        self._points_N3 = points_N3
        self._fixed_N = fixed.bins(points_N3)

    def at(self, pose: Float64Array) -> tuple[float, float]:
        """Mutual information (nats) at a pose (4, 4), first's mm -> second's mm, and the share of points inside."""
        value, inside = self._information(pose[None])[0].tolist()
        return value, inside / len(self._points_N3)

    def scores(self, poses_P44: Float64Array) -> Float64Array:
        """(P,) information per point, 0 for points outside, so that moving out of the field of view cannot raise it."""
        value_P, inside_P = self._information(poses_P44).T
        return np.asarray(value_P * inside_P / len(self._points_N3))

    def score(self, pose: Float64Array) -> float:
        return float(self.scores(pose[None])[0])

    def _information(self, poses_P44: Float64Array) -> Float64Array:
        moving = self._moving
        matrices_P34 = np.ascontiguousarray((moving.to_voxel @ poses_P44)[:, :3])
        values_PN, weights_PN = sample_inside(moving.coef, matrices_P34, self._points_N3)
        return _information(self._fixed_N, values_PN, weights_PN, moving.low, moving.scale)
