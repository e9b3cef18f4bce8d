"""Prospective motion correction: the scanner moves its slices with the head and states where they are now.

Knows nothing of runs. Siemens calls it PACE; the header's position and orientation then change from volume to volume.
The head stays where it is on the voxel grid, up to what the scanner did not follow, and moves in scanner
coordinates. All volumes of a run are therefore taken on the grid of its first, where the remaining motion is estimated
from the images as usual, and the stated motion is added to the movement that is reported. Betas rest on the images
alone: no voxel is interpolated according to a header.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.motion import rigid

Float64Array = NDArray[np.float64]

SAME_MM = 1e-3  # rounding of headers
RIGID = 1e-3
MAX_FOLLOWED_MM = 30.0  # beyond this the slices are others; no head moves so far


def followed_motion(
    first_affine: Float64Array, affine: Float64Array, shape: tuple[int, int, int]
) -> Float64Array | None:
    """(4, 4) mm of the first volume's grid -> mm of this one's, as stated; None if no head moves like that."""
    if np.allclose(affine, first_affine, rtol=0.0, atol=SAME_MM):
        return np.eye(4)
    moved = np.asarray(affine @ np.linalg.inv(first_affine), dtype=np.float64)
    turn = moved[:3, :3]
    if not np.allclose(turn.T @ turn, np.eye(3), rtol=0.0, atol=RIGID) or np.linalg.det(turn) < 0.0:
        return None
    centre_mm = (first_affine @ [*(np.array(shape) - 1) / 2, 1.0])[:3]
    return moved if rigid.displacement_mm(moved, centre_mm) <= MAX_FOLLOWED_MM else None


def motion_about(motion: Float64Array, centre_mm: Float64Array) -> Float64Array:
    """(6,) translations in mm about a centre, then rotations in radians."""
    return np.concatenate([motion[:3, :3] @ centre_mm + motion[:3, 3] - centre_mm, rigid.angles(motion)])
