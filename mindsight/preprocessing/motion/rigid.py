"""Rigid motions of space as six numbers and as matrices.

Knows nothing of images. Motions compose as 4x4 matrices in millimetres; a small motion is a twist (t, w): a point at y
from the centre goes to y + t + w x y to first order (R. Murray, Z. Li, S. Sastry, "A Mathematical Introduction to
Robotic Manipulation", 1994, chapter 2, for the exponential of a twist).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SPHERE_RADIUS_MM = 50.0
"""The sphere that stands for a head where its movement is reported or limited: J. Power et al., NeuroImage 59(3), 2012,
who count rotations as arcs on it for framewise displacement."""

LEVER_MM = 60.0
"""At which searches for a pose count a rotation as a length, to say how long a step or how far apart two poses are: a
choice, about the distance from a head's centre to the brain's edge."""


def exponential(twist_6: FloatArray, centre_mm: FloatArray) -> FloatArray:
    """The (4, 4) motion of a twist: translation (3) mm and rotation vector (3) rad about ``centre_mm``."""
    t, w = twist_6[:3], twist_6[3:]
    angle = math.sqrt(float(w @ w))
    cross = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    if angle < 1e-6:
        a, b, c = 1.0, 0.5, 1.0 / 6.0
    else:
        a = math.sin(angle) / angle
        b = (1.0 - math.cos(angle)) / angle**2
        c = (1.0 - a) / angle**2
    square = cross @ cross
    rotation = np.eye(3) + a * cross + b * square
    shift = t + b * (cross @ t) + c * (square @ t)
    return about(rotation, shift, centre_mm)


def about(rotation: FloatArray, translation_mm: FloatArray, centre_mm: FloatArray) -> FloatArray:
    """The (4, 4) motion x -> rotation (x - centre) + centre + translation."""
    motion = np.eye(4)
    motion[:3, :3] = rotation
    motion[:3, 3] = centre_mm + translation_mm - rotation @ centre_mm
    return motion


def inverse(motion: FloatArray) -> FloatArray:
    """Inverse of a rigid (4, 4) motion."""
    out = np.eye(4)
    out[:3, :3] = motion[:3, :3].T
    out[:3, 3] = -motion[:3, :3].T @ motion[:3, 3]
    return out


def angles(motion: FloatArray) -> FloatArray:
    """(3,) rotations in radians about x, y and z with rotation = Rx Ry Rz, the order and signs of SPM's spm_matrix."""
    r = motion[:3, :3]
    y = math.asin(min(1.0, max(-1.0, float(r[0, 2]))))
    x = math.atan2(float(r[1, 2]), float(r[2, 2]))
    z = math.atan2(float(r[0, 1]), float(r[0, 0]))
    return np.array([x, y, z])


def from_angles(rotation_rad: FloatArray) -> FloatArray:
    """The (3, 3) rotation Rx Ry Rz of :func:`angles`."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(rotation_rad), np.sin(rotation_rad)
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    product: FloatArray = rx @ ry @ rz
    return product


def displacement_mm(motion: FloatArray, centre_mm: FloatArray, radius_mm: float = SPHERE_RADIUS_MM) -> float:
    """How far a (4, 4) motion carries a head: translation of its centre plus the rotation's arc at ``radius_mm``."""
    shift = motion[:3, :3] @ centre_mm + motion[:3, 3] - centre_mm
    cosine = min(1.0, max(-1.0, (float(np.trace(motion[:3, :3])) - 1.0) / 2.0))
    return float(np.linalg.norm(shift)) + radius_mm * math.acos(cosine)
