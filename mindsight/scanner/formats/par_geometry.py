"""The position of a PAR file's volume: angulation and off-centre of the middle slice → an affine.

Knows nothing of files. Philips' axes point to posterior, superior and left (PSL). Philips does not document how
rotations and orientations combine; this equals nibabel's ``PARRECHeader.get_affine`` to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

PSL_TO_RAS = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_TRANSVERSE, _SAGITTAL, _CORONAL = 1, 2, 3
_TO_PSL = {
    _TRANSVERSE: np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
    _SAGITTAL: np.diag([1, -1, -1, 1]),
    _CORONAL: np.array([[0, 0, 1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
}


def affine_ras(
    shape: tuple[int, int, int],
    spacing_mm: Sequence[float],
    orientation: int,
    angulation_deg: Sequence[float],
    off_centre_mm: Float64Array,
) -> Float64Array:
    """(4, 4) voxel → RAS+ mm.

    orientation : 1 transverse, 2 sagittal, 3 coronal
    angulation_deg, off_centre_mm : of the middle slice, in the order (ap, fh, rl)
    """
    to_centre = np.eye(4)
    to_centre[:3, 3] = -(np.array(shape) - 1) / 2.0
    ap, fh, rl = (angle * (np.pi / 180.0) for angle in angulation_deg)
    rotation = np.eye(4)
    rotation[:3, :3] = np.dot(_about_z(rl), np.dot(_about_x(ap), _about_y(fh)))
    psl = np.dot(rotation, np.dot(_TO_PSL[orientation], np.dot(np.diag([*spacing_mm, 1]), to_centre)))
    psl[:3, 3] += off_centre_mm
    return np.asarray(np.dot(PSL_TO_RAS, psl), dtype=np.float64)


def _about_x(angle: float) -> Float64Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])


def _about_y(angle: float) -> Float64Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def _about_z(angle: float) -> Float64Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
