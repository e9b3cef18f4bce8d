"""Volume: one TR of one run. Knows nothing of files, scanners or the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.volume_bounds import require_numbers, require_place, require_sides


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
        require_sides(data.shape)
        if data.dtype.kind not in "iuf":
            raise BadVolume(f"expected real numbers, got dtype {data.dtype}", code="volume.dtype")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise BadVolume("expected a finite (4, 4) affine", code="volume.affine")
        require_place(affine.tolist())
        require_numbers(self.tr_s, self.run, self.index, self.motion_6)
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
