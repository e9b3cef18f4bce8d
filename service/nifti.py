"""A volume as the bytes of a NIfTI-1 file, which every viewer reads. Knows nothing of sessions.

Fields as in nifti1.h. The same volume gives the same bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CODES = {np.dtype("u1"): 2, np.dtype("<i2"): 4, np.dtype("<f4"): 16}
_HEADER_BYTES = 352
_SCANNER = 1  # code of the coordinates


def nifti_bytes(data_XYZ: NDArray[Any], affine: NDArray[np.float64], slope: float = 1.0, intent: str = "") -> bytes:
    """data_XYZ : uint8, int16 or float32; a value is data x slope. affine : (4, 4) to millimetres, RAS+"""
    header = bytearray(_HEADER_BYTES)
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *data_XYZ.shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, _CODES[data_XYZ.dtype], 8 * data_XYZ.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *edges_mm, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<fff", header, 108, _HEADER_BYTES, slope, 0.0)
    header[123] = 2  # millimetres
    struct.pack_into("<hh", header, 252, 0, _SCANNER)
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    struct.pack_into("16s", header, 328, intent.encode())
    struct.pack_into("4s", header, 344, b"n+1")
    return bytes(header) + data_XYZ.tobytes(order="F")
