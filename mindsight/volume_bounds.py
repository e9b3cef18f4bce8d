"""What a volume can be: sides, place and time that a scanner can measure. Knows nothing of arrays.

A gateway checks the header of a volume by this and does no arithmetic on its voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mindsight.errors import BadVolume

MAX_SIDE = 512
MAX_VOXELS = 32 * 1024 * 1024
MIN_TR_S, MAX_TR_S = 0.05, 60.0  # the fastest whole-head sequences take 0.1 s and more, a single slice 0.05 s
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.05, 100.0  # of one edge; a localiser's slices lie centimetres apart
MAX_ORIGIN_MM = 10_000.0  # of the first voxel from the scanner's centre: no bore is longer
LEAST_ANGLE = 0.1  # volume spanned by the axes' unit vectors: 1 if they are square to each other
SAME_TR = 1e-3  # of the longer one: what rounding in headers and in people's notes makes of one repetition time
_LAST_ROW = [0.0, 0.0, 0.0, 1.0]


def is_tr(tr_s: float | None) -> bool:
    """Whether a scanner can measure a volume in this time."""
    return tr_s is not None and MIN_TR_S <= tr_s < MAX_TR_S


def same_tr(one_s: float, other_s: float) -> bool:
    """Whether two statements of a repetition time mean the same; a millisecond is rounding too."""
    return abs(one_s - other_s) <= max(1e-3, SAME_TR * max(one_s, other_s)) + 1e-9


def require_sides(shape: Sequence[int]) -> None:
    """Raises BadVolume (``volume.shape``) unless these are the three sides of a volume."""
    if len(shape) != 3:
        raise BadVolume(f"expected a 3-D volume, got an array of shape {tuple(shape)}", code="volume.shape")
    if min(shape) < 1 or max(shape) > MAX_SIDE or math.prod(shape) > MAX_VOXELS:
        raise BadVolume(f"expected sides of 1 to {MAX_SIDE} voxels, got {tuple(shape)}", code="volume.shape")


def require_place(affine: Sequence[Sequence[float]]) -> None:
    """Raises BadVolume (``volume.affine``) unless these are voxels that a scanner can measure, inside of it.

    affine : four rows of four numbers, voxel index -> scanner RAS+ millimetres
    """
    if not all(map(math.isfinite, (number for row in affine for number in row))):
        raise BadVolume("expected a finite (4, 4) affine", code="volume.affine")
    farthest_mm = max(abs(number) for row in affine[:3] for number in row)
    if farthest_mm > MAX_ORIGIN_MM:  # before anything is squared, which could overflow
        raise BadVolume(
            f"expected voxels within {MAX_ORIGIN_MM / 1000:g} m of the scanner's centre, got an affine with"
            f" {farthest_mm:.3g} mm: check the geometry in the header",
            code="volume.affine",
        )
    axes = [[row[axis] for row in affine[:3]] for axis in range(3)]
    edges_mm = [math.hypot(*axis) for axis in axes]
    if min(edges_mm) < MIN_VOXEL_MM or max(edges_mm) > MAX_VOXEL_MM:
        raise BadVolume(
            f"expected voxels of {MIN_VOXEL_MM:g} to {MAX_VOXEL_MM:g} mm, got {min(edges_mm):.3g} to"
            f" {max(edges_mm):.3g} mm: check the geometry in the header",
            code="volume.affine",
        )
    spanned = _spanned(*axes) / math.prod(edges_mm)
    if spanned < LEAST_ANGLE or list(affine[3]) != _LAST_ROW:
        raise BadVolume(
            "expected an affine whose axes span the volume and whose last row is 0 0 0 1: check the geometry in the"
            " header",
            code="volume.affine",
        )


def require_numbers(tr_s: float, run: int, index: int, motion_6: Sequence[float] | None) -> None:
    """Raises BadVolume unless TR (``volume.tr``), run and index (``volume.index``) and motion (``volume.motion``) can
    be a volume's."""
    if not is_tr(tr_s):
        raise BadVolume(f"expected a TR of {MIN_TR_S} to {MAX_TR_S:g} s, got {tr_s!r}", code="volume.tr")
    if run < 1 or index < 0:
        raise BadVolume(f"expected run >= 1 and index >= 0, got {run} and {index}", code="volume.index")
    if motion_6 is not None and not (len(motion_6) == 6 and all(map(math.isfinite, motion_6))):
        raise BadVolume("expected six finite motion parameters of a volume, or none", code="volume.motion")


def _spanned(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    """The volume that three vectors span, without sign."""
    return abs(
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )  # fmt: skip
