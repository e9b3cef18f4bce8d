"""A checksum that recognises a volume that arrives twice. Knows nothing of series."""

from __future__ import annotations

import zlib

import numpy as np

from mindsight.volume import Volume

MARKED_SLICES = 4  # every fourth slice is part of the checksum


def mark_of(volume: Volume) -> int:
    """Checksum of the voxels: no other volume has the same noise."""
    return zlib.crc32(np.ascontiguousarray(volume.data.T[::MARKED_SLICES]).data)
