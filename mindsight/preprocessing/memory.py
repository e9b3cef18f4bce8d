"""A volume's voxels in the order in which they lie in memory, with the affine that goes with that order.

Knows nothing of what is done with them. Fortran-ordered arrays (nibabel) are walked through as they are, with their axes
named in reverse, instead of being copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.volume import Volume

_NATIVE = (np.dtype(np.int16), np.dtype(np.uint16), np.dtype(np.float32))


@dataclass(frozen=True, slots=True)
class MemoryVolume:
    """data : C-contiguous int16, uint16 or float32; affine : (4, 4) its voxels -> mm; reverse : axes run z, y, x."""

    data: NDArray[Any]
    affine: NDArray[np.float64]
    reverse: bool

    @classmethod
    def of(cls, volume: Volume) -> MemoryVolume:
        data, affine = volume.data, volume.affine
        reverse = bool(data.flags.f_contiguous and not data.flags.c_contiguous)
        if reverse:
            data = data.T
            affine = affine[:, [2, 1, 0, 3]]
        if data.dtype not in _NATIVE:
            data = data.astype(np.float32)
        return cls(np.ascontiguousarray(data), np.ascontiguousarray(affine), reverse)

    def arrange(self, array_XYZ: NDArray[Any]) -> NDArray[Any]:
        """Another array of the volume's shape, in this order."""
        return np.ascontiguousarray(array_XYZ.T if self.reverse else array_XYZ)

    def finite(self) -> NDArray[Any]:
        """The data with 0 where it is not finite."""
        if self.data.dtype.kind == "f" and not np.isfinite(self.data).all():
            return np.nan_to_num(self.data, nan=0.0, posinf=0.0, neginf=0.0)
        return self.data
