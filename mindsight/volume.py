"""Volume: one TR of one run. Knows nothing of files, scanners or the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume

MAX_SIDE = 512
MAX_VOXELS = 32 * 1024 * 1024
MIN_TR_S, MAX_TR_S = 0.05, 60.0  # the fastest whole-head sequences take 0.1 s and more, a single slice 0.05 s
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.05, 100.0  # of one edge; a localiser's slices lie centimetres apart
MAX_ORIGIN_MM = 10_000.0  # of the first voxel from the scanner's centre: no bore is longer
LEAST_ANGLE = 0.1  # volume spanned by the axes' unit vectors: 1 if they are square to each other
_LAST_ROW = np.array([0.0, 0.0, 0.0, 1.0])
SAME_TR = 1e-3  # of the longer one: what rounding in headers and in people's notes makes of one repetition time


def is_tr(tr_s: float | None) -> bool:
    """Whether a scanner can measure a volume in this time."""
    return tr_s is not None and MIN_TR_S <= tr_s < MAX_TR_S


def same_tr(one_s: float, other_s: float) -> bool:
    """Whether two statements of a repetition time mean the same; a millisecond is rounding too."""
    return abs(one_s - other_s) <= max(1e-3, SAME_TR * max(one_s, other_s)) + 1e-9


@dataclass(frozen=True, slots=True)
class Volume:
    """One TR of a run, on the scanner's own grid.

    data : (X, Y, Z) array, any real dtype; kept as acquired (int16 stays int16)
    affine : (4, 4) float64, voxel index -> scanner RAS+ millimetres
    tr_s : repetition time in seconds
    run : 1-based number of the run
    index : 0-based number of the volume in its run
    acquired_s, arrived_s, trigger_s : the three clocks, seconds since the Unix epoch (trigger: of the stimulus
        computer), None if unknown
    slice_times_s : (Z,) seconds after the volume's start, None if unknown
    motion_6 : six motion parameters that another program estimated, raw, in an order that the run says; None if
        there are none

    Raises BadVolume if shape, affine, TR or motion cannot be a volume's.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    tr_s: float
    run: int
    index: int
    acquired_s: float | None = None
    arrived_s: float | None = None
    trigger_s: float | None = None
    slice_times_s: NDArray[np.float64] | None = None
    motion_6: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3:
            raise BadVolume(f"expected a 3-D volume, got an array of shape {data.shape}", code="volume.shape")
        if min(data.shape) < 1 or max(data.shape) > MAX_SIDE or data.size > MAX_VOXELS:
            raise BadVolume(f"expected sides of 1 to {MAX_SIDE} voxels, got {data.shape}", code="volume.shape")
        if data.dtype.kind not in "iuf":
            raise BadVolume(f"expected real numbers, got dtype {data.dtype}", code="volume.dtype")
        affine = np.asarray(self.affine, dtype=np.float64)
        _require_place(affine)
        if not is_tr(self.tr_s):
            raise BadVolume(f"expected a TR of {MIN_TR_S} to {MAX_TR_S:g} s, got {self.tr_s!r}", code="volume.tr")
        if self.run < 1 or self.index < 0:
            raise BadVolume(f"expected run >= 1 and index >= 0, got {self.run} and {self.index}", code="volume.index")
        if self.motion_6 is not None and not (len(self.motion_6) == 6 and all(map(math.isfinite, self.motion_6))):
            raise BadVolume("expected six finite motion parameters of a volume, or none", code="volume.motion")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        x, y, z = self.data.shape
        return x, y, z

    @property
    def voxel_mm(self) -> NDArray[np.float64]:
        """(3,) edge lengths of a voxel in millimetres."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)


def _require_place(affine: NDArray[np.float64]) -> None:
    """Raises BadVolume (``volume.affine``) unless these are voxels that a scanner can measure, inside of it."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise BadVolume("expected a finite (4, 4) affine", code="volume.affine")
    farthest_mm = float(np.abs(affine[:3]).max())
    if farthest_mm > MAX_ORIGIN_MM:  # before anything is squared, which could overflow
        raise BadVolume(
            f"expected voxels within {MAX_ORIGIN_MM / 1000:g} m of the scanner's centre, got an affine with"
            f" {farthest_mm:.3g} mm: check the geometry in the header",
            code="volume.affine",
        )
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if edges_mm.min() < MIN_VOXEL_MM or edges_mm.max() > MAX_VOXEL_MM:
        raise BadVolume(
            f"expected voxels of {MIN_VOXEL_MM:g} to {MAX_VOXEL_MM:g} mm, got {edges_mm.min():.3g} to"
            f" {edges_mm.max():.3g} mm: check the geometry in the header",
            code="volume.affine",
        )
    if abs(np.linalg.det(affine[:3, :3] / edges_mm)) < LEAST_ANGLE or not np.array_equal(affine[3], _LAST_ROW):
        raise BadVolume(
            "expected an affine whose axes span the volume and whose last row is 0 0 0 1: check the geometry in the"
            " header",
            code="volume.affine",
        )
