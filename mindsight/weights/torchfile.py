"""Reads what ``torch.save`` wrote without running anything in it: tensors are memory-mapped, all else is inert.

Knows nothing of models. A pickle names the classes and functions it wants; torch's weights-only reader calls those it
knows to be harmless. All others (learning-rate schedules, loss scalers, other objects of a training script) are
replaced by ``Unread``, which accepts any arguments and does nothing, so that such an object does not make the weights
beside it unreadable.
"""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mindsight.errors import ModelMismatch

# what torch's reader, and that of archives, raise for a file that is not as it was written
_DAMAGED = (
    UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError,
    AssertionError, zipfile.BadZipFile, struct.error,
)  # fmt: skip
_ARCHIVE = b"PK\x03\x04"  # how a file of torch 1.6 and later begins


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dict in a file of ``torch.save``; its tensors are memory-mapped and cost nothing until they are used.

    Raises ModelMismatch: ``checkpoint.missing``; ``checkpoint.unreadable`` if the file is cut short, was not written
    by ``torch.save``, was written by torch before 1.6, or asks for the operating system.
    """
    if not path.is_file():
        raise ModelMismatch(f"expected a checkpoint file {path.name}, there is none", code="checkpoint.missing")
    try:
        _check_records(path)
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
        _check_records(path)
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


def _check_records(path: Path) -> None:
    """Torch takes the memory that a record states before it reads it, and unpacks what is compressed: neither may be
    more than the file is. Raises ValueError.
    """
    with path.open("rb") as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:
            return
        with zipfile.ZipFile(file) as archive:
            stated = sum(record.file_size for record in archive.infolist())
    if stated > path.stat().st_size:
        raise ValueError(f"its records state {stated} bytes, more than the file has")


def _reason(error: Exception) -> str:
    """torch's own sentence, without its advice to run the file's code after all."""
    text = (str(error).partition("WeightsUnpickler error:")[2] or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _stand_in(name: str) -> type[Unread]:
    return type(name, (Unread,), {})
