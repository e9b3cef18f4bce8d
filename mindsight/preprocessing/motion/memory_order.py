"""A volume's voxels in the order in which they lie in memory, with the grid that goes with that order.

Knows nothing of what is done with them. Fortran-ordered arrays (nibabel) are walked through as they are, with their
axes named in reverse, instead of being copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.volume import Volume

MAX_VALUE = np.float32(1e12)  # squares and sums of such values are still finite in float32


@dataclass(frozen=True, slots=True)
class Grid:
    """affine : (4, 4) voxel in memory order -> mm; shape : in memory order; slice_axis : 2, or 0 if reversed."""

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    slice_axis: int

    def same_as(self, other: Grid) -> bool:
        """Equal to the last bit."""
        return (
            self.shape == other.shape
            and self.slice_axis == other.slice_axis
            and np.array_equal(self.affine, other.affine)
        )

    @property
    def voxel_mm(self) -> NDArray[np.float64]:
        """(3,) edge lengths of a voxel."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)

    @property
    def n_slices(self) -> int:
        return self.shape[self.slice_axis]

    def arrange(self, array_XYZ: NDArray[Any]) -> NDArray[Any]:
        """Another array of the volume's shape, in this order."""
        return np.ascontiguousarray(array_XYZ.T if self.slice_axis == 0 else array_XYZ)


def in_memory_order(volume: Volume) -> tuple[NDArray[np.float32], Grid]:
    """All of the volume: see ``as_values``."""
    data, grid = raw_in_memory_order(volume)
    return as_values(data), grid


def raw_in_memory_order(volume: Volume) -> tuple[NDArray[Any], Grid]:
    """The volume's own numbers, of its own dtype, and their grid."""
    data, affine, slice_axis = volume.data, volume.affine, 2
    if data.flags.f_contiguous and not data.flags.c_contiguous:
        data, affine, slice_axis = data.T, affine[:, [2, 1, 0, 3]], 0
    x, y, z = data.shape
    return data, Grid(np.ascontiguousarray(affine), (x, y, z), slice_axis)


def as_values(data: NDArray[Any]) -> NDArray[np.float32]:
    """C-contiguous float32, 0 where the data is not finite or absurd (over MAX_VALUE).

    One dtype for every kernel: the copy costs less than compiling each of them for each scanner's dtype would.
    """
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(data, dtype=np.float32)
    if data.dtype.kind == "f" and not (np.abs(values) <= MAX_VALUE).all():
        values = np.where(np.abs(values) <= MAX_VALUE, values, np.float32(0.0))
    return values
