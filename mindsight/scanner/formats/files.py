"""What the readers of all formats share: the order of files, and how errors refer to them.

Knows nothing of formats. File and folder names often hold a patient's name. They choose which files are read, and
appear neither in a volume nor in an error, which refers to a file by its number in the order of names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.volume import Volume

MAX_DICOM_BYTES = 256 * 1024 * 1024
LEFT_CUT_OFF = "left out the last volume, whose file is truncated: the run or the copy was stopped"
_CUT_OFF = frozenset(
    {
        *("dicom.truncated", "dicom.unreadable", "dicom.no_image"),
        *("nifti.truncated", "nifti.unreadable", "parrec.truncated"),
    }
)

T = TypeVar("T")
OnBad = Callable[[BadVolume], None]


def strictly(error: BadVolume) -> None:
    """Raises the error of a bad file: the default for ``on_bad``."""
    raise error


@dataclass(frozen=True, slots=True)
class Contents:
    """A run as a reader finds it.

    n_volumes : TRs from the first volume to the last, missing volumes included
    volumes : reads the volumes in order, with a function that is called for bad ones
    notes : for the operator
    """

    n_volumes: int
    volumes: Callable[[OnBad], Iterator[Volume]]
    notes: tuple[str, ...] = ()


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorting key that compares numbers by value: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", path.name) if part]


def read_bytes(path: Path) -> bytes:
    """Content of a file, up to the largest size of a DICOM object. Raises BadVolume."""
    try:
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size  # reading up to the bound would allocate it for each file
            data = file.read(n_bytes + 1) if n_bytes <= MAX_DICOM_BYTES else None
    except OSError as error:
        raise BadVolume(f"the file cannot be read: {error.strerror}", code="dicom.unreadable") from None
    if data is None or len(data) > MAX_DICOM_BYTES:
        raise BadVolume(f"expected a file of at most {MAX_DICOM_BYTES} bytes", code="dicom.too_large")
    return data


def stated_tr(given_s: float | None, stated_s: float | None) -> float:
    """The given repetition time, else that of the file. Raises BadVolume if there is neither."""
    tr_s = stated_s if given_s is None else given_s
    if tr_s is None:
        raise no_tr()
    return tr_s


def no_tr() -> BadVolume:
    return BadVolume("the file states no repetition time of 0.05 to 60 s; give tr_s", code="volume.tr")


def read_heads(n: int, read: Callable[[int], T], on_bad: OnBad, notes: list[str]) -> dict[int, T]:
    """The headers of all files by their number in the order of names, from 1. Raises BadVolume if none can be read.

    notes : a stopped run may end with a file that is cut off; in strict reading that is a note, not an error
    """
    met: list[BadVolume] = []
    found: dict[int, T] = {}
    for file_number in range(1, n + 1):
        for head in each([file_number], n, read, met.append):
            found[file_number] = head
    if not found:
        raise met[0]
    if on_bad is strictly and len(met) == 1 and is_cut_off(met[0]) and met[0].details["file"] == n:
        notes.append(LEFT_CUT_OFF)
    else:
        for error in met:
            on_bad(error)
    return found


def is_cut_off(error: BadVolume) -> bool:
    return error.code in _CUT_OFF


def each(file_numbers: Iterable[int], n: int, read: Callable[[int], T], on_bad: OnBad) -> Iterator[T]:
    """Reads these files; errors say which file it was."""
    for file_number in file_numbers:
        try:
            with named(file_number, n):
                found = read(file_number)
        except BadVolume as error:
            on_bad(error)
        else:
            yield found


def counted_from(numbers: dict[int, int], n_bad: int) -> int:
    """The number from which the run counts: the first that is there, but 1 if bad files may precede it."""
    first = min(numbers.values())
    return 1 if 1 < first <= n_bad + 1 else first


@contextmanager
def named(file_number: int, n: int) -> Iterator[None]:
    """Makes errors say which file it was."""
    try:
        yield
    except BadVolume as error:
        details = error.details | {"file": file_number}
        raise BadVolume(f"file {file_number} of {n} by name: {error}", code=error.code, **details) from None
