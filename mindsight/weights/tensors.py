"""Arrays in safetensors files, memory-mapped: a page of the file is read when it is used.

Knows nothing of what the arrays mean.

The format: eight bytes little-endian length of a JSON header, the header (name -> dtype, shape, byte range), the bytes
(https://github.com/huggingface/safetensors#format). The library's own NumPy reader copies each array into memory.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from mindsight.errors import ModelMismatch
from mindsight.files.durable import storage_errors

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1", "BOOL": "?"}
_MAX_HEADER = 100_000_000
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays, C-contiguous, in the order of their names, all or nothing. Raises StorageFull."""
    with disk_errors():
        save_file({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, path)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn the library's report of an error of the disk into OSError, or into StorageFull if the disk is full."""
    with storage_errors():
        try:
            yield
        except SafetensorError as error:
            if (found := _OS_ERROR.search(str(error))) is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def pack_tensors(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """A file's bytes: the arrays, and strings beside them."""
    return bytes(save({name: np.asarray(array, order="C") for name, array in tensors.items()}, dict(metadata)))


def read_metadata(path: Path) -> dict[str, str]:
    """The strings beside the arrays. Raises ModelMismatch (``model.file``)."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file, in memory. Raises ModelMismatch (``model.file``)."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)


def tensor_header(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], size: int = 0) -> bytes:
    """What precedes the bytes of a file with this one array, for arrays too large to be in memory at once.

    size : bytes to pad to, for a header that is written after the array; a multiple of 8
    """
    kind = next(key for key, value in _DTYPES.items() if np.dtype(value) == dtype)
    n_bytes = dtype.itemsize * math.prod(shape)
    header = json.dumps({name: {"dtype": kind, "shape": shape, "data_offsets": [0, n_bytes]}}).encode()
    header += b" " * max(-len(header) % 8, size - 8 - len(header))
    return struct.pack("<Q", len(header)) + header


class Tensors(dict[str, NDArray[Any]]):
    """Arrays of a file by name; ModelMismatch (``model.file``) for one that it lacks."""

    def __init__(self, file: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._file = file

    def __missing__(self, name: str) -> NDArray[Any]:
        raise ModelMismatch(f"expected a tensor {name} in {self._file}, got none", code="model.file")


def map_tensors(path: Path) -> Tensors:
    """Every array of the file, memory-mapped and read-only.

    Raises ModelMismatch (``model.file``) if the file is not of the format, is cut short, or holds a dtype that NumPy
    does not know (bfloat16).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER
        if length > min(size - 8, _MAX_HEADER):
            raise ModelMismatch(f"expected a safetensors file, got {path.name} with no header in it", code="model.file")
        try:
            header = dict(json.loads(file.read(length)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelMismatch(f"expected a JSON header in {path.name}: {error}", code="model.file") from None
    header.pop("__metadata__", None)
    arrays = {name: _map(path, size, 8 + length, name, entry) for name, entry in header.items()}
    return Tensors(path.name, arrays)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelMismatch(f"expected a safetensors file, got {path.name}: {error}", code="model.file") from None


def _map(path: Path, size: int, start: int, name: str, entry: Any) -> NDArray[Any]:
    try:
        kind, shape = str(entry["dtype"]), tuple(operator.index(n) for n in entry["shape"])
        first, last = (operator.index(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise ModelMismatch(
            f"expected dtype, shape and two offsets of {name} in {path.name}", code="model.file"
        ) from None
    if kind not in _DTYPES:
        raise ModelMismatch(f"expected a dtype of {sorted(_DTYPES)} in {path.name}, got {kind}", code="model.file")
    dtype = np.dtype(_DTYPES[kind])
    n_bytes = dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or last - first != n_bytes or first < 0 or start + last > size:
        raise ModelMismatch(
            f"expected {n_bytes} bytes of {name} in {path.name}, got a range of {last - first} in a file of {size}",
            code="model.file",
        )
    if n_bytes == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape)
