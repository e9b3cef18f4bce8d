"""By what a volume is known again when it comes twice. Knows nothing of series."""

from __future__ import annotations

import zlib

import numpy as np

from mindsight.volume import Volume

MARKED_SLICES = 4  # of so many slices one is looked at


def mark_of(volume: Volume) -> int:
    """Of the voxels: no other volume has their noise."""
    return zlib.crc32(np.ascontiguousarray(volume.data.T[::MARKED_SLICES]).data)
