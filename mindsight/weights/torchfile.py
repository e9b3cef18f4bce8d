"""Reads what ``torch.save`` wrote without running anything in it: tensors are memory-mapped, all else is inert.

Knows nothing of models. A pickle names the classes and functions it wants; torch's weights-only reader calls those it
knows to be harmless. All others (learning-rate schedules, loss scalers, other objects of a training script) are
replaced by ``Unread``, which accepts any arguments and does nothing, so that such an object does not make the weights
beside it unreadable.
"""

from __future__ import annotations

import os
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch

from mindsight.errors import ModelMismatch

# what torch's reader, and that of archives, raise for a file that is not as it was written
_DAMAGED = (
    UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError,
    AssertionError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
_ARCHIVE = b"PK\x03\x04"  # how a file of torch 1.6 and later begins
_N_PICKLES = 5  # of a file from before: two marks, the system's sizes, what was saved, and its storages' names
_MAX_NAME = 500  # letters of a class or a function


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dict in a file of ``torch.save``; its tensors are memory-mapped and cost nothing until they are used.

    Raises ModelMismatch: ``checkpoint.missing``; ``checkpoint.unreadable`` if the file is cut short, was not written
    by ``torch.save``, was written by torch before 1.6, or asks for the operating system.
    """
    if not path.is_file():
        raise ModelMismatch(f"expected a checkpoint file {path.name}, there is none", code="checkpoint.missing")
    try:
        _check(path)
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_stand_in(name), name) for name in unknown
        ]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickle protocols and typed storages of older versions
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGED as error:
        raise ModelMismatch(
            f"expected a checkpoint of tensors, got {path.name}, which cannot be read as one without running code: "
            f"{_reason(error)}",
            code="checkpoint.unreadable",
        ) from None
    if not isinstance(held, dict):
        raise ModelMismatch(
            f"expected a checkpoint with a dict in it, got {path.name} with a {type(held).__name__}",
            code="checkpoint.unreadable",
        )
    return held


def read_torch_object(path: Path, *, code: str = "model.file") -> Any:
    """Whatever is in a file of ``torch.save`` of any version, if tensors and plain Python objects are all of it.

    For files that must hold nothing else: no stand-ins, and no memory map, which the format before torch 1.6 lacks.

    Raises ModelMismatch under ``code``, FileNotFoundError.
    """
    try:
        _check(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise ModelMismatch(
            f"expected a file of tensors, got {path.name}, which cannot be read as one: {_reason(error)}", code=code
        ) from None


class Unread:
    """A stand-in for an object that is not read. Whatever is done to it while reading has no effect."""

    def __new__(cls, *_: object, **__: object) -> Unread:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...


def _check(path: Path) -> None:
    """What torch does before it has looked at a file must not cost more than the file is. Raises one of _DAMAGED.

    It takes the memory that a record states before it reads it, and unpacks what is compressed. The text of its errors
    goes through expressions that take the square of a name's length.
    """
    with path.open("rb") as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:
            file.seek(0)
            for _ in range(_N_PICKLES):
                _check_names(file)
            return
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            stated = sum(record.file_size for record in records)
            if stated > path.stat().st_size:
                raise ValueError(f"its records state {stated} bytes, more than the file has")
            for record in records:
                if record.filename.endswith("/data.pkl"):
                    # not by ``archive.read``: torch can save without checksums
                    file.seek(record.header_offset + 26)
                    file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
                    _check_names(file)


def _check_names(pickled: IO[bytes]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in strings of protocol 0
            for operation, argument, _ in pickletools.genops(pickled):
                if operation.name in ("GLOBAL", "INST") and len(str(argument)) > _MAX_NAME:
                    raise ValueError(f"it asks for a name of {len(str(argument))} letters")
    except MemoryError:
        raise ValueError("a part of it states more bytes than there is memory") from None


def _reason(error: Exception) -> str:
    """torch's own sentence, without its advice to run the file's code after all."""
    text = (str(error).partition("WeightsUnpickler error:")[2] or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _stand_in(name: str) -> type[Unread]:
    return type(name, (Unread,), {})
