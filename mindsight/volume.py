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
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise BadVolume("expected a finite, invertible (4, 4) affine", code="volume.affine")
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
