"""Arrays of numbers in NumPy's files: one that is damaged costs a ValueError, and not the memory that it states.

What h5py raises for a damaged HDF5 file is listed here too, for those who open one.
"""

from __future__ import annotations

import io
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_UNPACKED_BYTES = 1024**3
_DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zlib.error,
)
# what h5py raises for an HDF5 file that is not as it was written
HDF5_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a ``.npy``, memory-mapped and read-only. Raises ValueError, which says why, and OSError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers of Python 2
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except _DAMAGED as error:
        raise ValueError(_reason(error)) from None
    return array


def parse_npy(content: bytes) -> NDArray[Any]:
    """The array in the content of a ``.npy``. Raises ValueError, which says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except _DAMAGED as error:
        raise ValueError(_reason(error)) from None
    return array


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` by name. Raises ValueError, which says why, and OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            stated = sum(record.file_size for record in archive.infolist())
            if stated > MAX_UNPACKED_BYTES:
                raise ValueError(f"it states {stated} bytes, expected at most {MAX_UNPACKED_BYTES}")
            return {name.removesuffix(".npy"): parse_npy(archive.read(name)) for name in archive.namelist()}
    except (*_DAMAGED, zipfile.BadZipFile, struct.error, RuntimeError) as error:
        raise ValueError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
