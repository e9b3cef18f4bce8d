"""A PAR file's text → the few numbers that a volume needs. Identity stops here, as in dicom_header.py.

Knows nothing of REC files or geometry. Only lines whose key is on the list and numbers of the table are read; the
patient's name, the name and the date of the examination never are. No error quotes the file.

Reference: the field list in each PAR file ("IMAGE INFORMATION DEFINITION"), V4 to V4.2 as in nibabel.parrec; the
shorter V3 table, with sizes in the general lines, as other public readers (itk, dcm2niix) read it.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume

MAX_PAR_BYTES = 96 * 1024 * 1024
MAX_LINE_BYTES = 4096
MAX_GENERAL_LINES = 1000
MAX_IMAGES = 200_000
_ABSURD = 1e9

ALLOWED = {
    "max. number of slices/locations": "slices",
    "repetition time [ms]": "tr_ms",
    "repetition time [msec]": "tr_ms",
    "angulation midslice(ap,fh,rl)[degr]": "angulation",
    "off centre midslice(ap,fh,rl) [mm]": "off_centre",
    "image pixel size [8 or 16 bits]": "bits",
    "recon resolution (x, y)": "resolution",
    "slice thickness [mm]": "thickness",
    "slice gap [mm]": "gap",
}
"""General lines that are read, by their key in lower case with single spaces."""

_V4 = {
    **{"slice": 0, "echo": 1, "dynamic": 2, "phase": 3, "type": 4, "index": 6, "bits": 7, "columns": 9, "rows": 10},
    **{"rescale_intercept": 11, "rescale_slope": 12, "scale_slope": 13},
    **{
        "angulation_ap": 16,
        "angulation_fh": 17,
        "angulation_rl": 18,
        "centre_ap": 19,
        "centre_fh": 20,
        "centre_rl": 21,
    },
    **{"thickness": 22, "gap": 23, "orientation": 25, "spacing_x": 28, "spacing_y": 29, "echo_ms": 30, "begin_s": 31},
}
_V41 = _V4 | {"b_value": 41, "gradient": 42}
_V3 = {
    **{"slice": 0, "echo": 1, "dynamic": 2, "phase": 3, "type": 4, "index": 6},
    **{"rescale_intercept": 7, "rescale_slope": 8, "scale_slope": 9},
    **{
        "angulation_ap": 12,
        "angulation_fh": 13,
        "angulation_rl": 14,
        "centre_ap": 15,
        "centre_fh": 16,
        "centre_rl": 17,
    },
    **{"orientation": 19, "spacing_x": 22, "spacing_y": 23, "echo_ms": 24, "begin_s": 25},
}
_VERSIONS = {"V3": _V3, "V4": _V4, "V4.1": _V41, "V4.2": _V41 | {"label": 48}}
_WHOLE = ("slice", "echo", "dynamic", "phase", "type", "index", "bits", "columns", "rows", "orientation")


@dataclass(frozen=True, slots=True)
class ParHeader:
    """The numbers of a PAR file.

    general : numbers of the allowed lines
    table : column → (I,) numbers, one per image, in the order of the file
    """

    general: dict[str, tuple[float, ...]]
    table: dict[str, NDArray[np.float64]]


def read_par(path: Path) -> ParHeader:
    """The numbers of a PAR file.

    Raises BadVolume for another file, an unknown version, a truncated or oversized file, or values that are no numbers.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size > MAX_PAR_BYTES:
                refuse("too_large", f"expected a PAR file of at most {MAX_PAR_BYTES} bytes")
            return _parsed(file)
    except OSError as error:
        message = f"the PAR file cannot be read: {error.strerror or type(error).__name__}"
    refuse("unreadable", message)


def refuse(what: str, message: str) -> NoReturn:
    raise BadVolume(message, code=f"parrec.{what}")


def _parsed(file: BinaryIO) -> ParHeader:
    columns: dict[str, int] | None = None
    general: dict[str, tuple[float, ...]] = {}
    values = array("d")
    n_images = n_general = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            refuse("not_par", f"expected a PAR file with lines of at most {MAX_LINE_BYTES} bytes")
        text = line.strip()
        if text.startswith(b"#"):
            columns = _version(text) if columns is None and b"image export tool" in text else columns
        elif text.startswith(b"."):
            n_general += 1
            _general(text, general)
        elif text:
            if columns is None:
                refuse("not_par", "expected a PAR file that names its version (V3 to V4.2), got something else")
            n_images += 1
            _image(text, columns, values)
        if n_images > MAX_IMAGES or n_general > MAX_GENERAL_LINES:
            refuse("too_large", f"expected at most {MAX_IMAGES} images and {MAX_GENERAL_LINES} general lines")
    if columns is None or n_images == 0:
        refuse("truncated", "expected a PAR file with a table of images, got none; wait until the file is whole")
    table_IC = np.frombuffer(values, dtype=np.float64).reshape(n_images, len(columns))
    table = {name: table_IC[:, k].copy() for k, name in enumerate(columns)}
    for name, keys in {"bits": ("bits",), "thickness": ("thickness",), "gap": ("gap",)}.items():
        _spread(table, general, name, keys, n_images)
    _spread(table, general, "resolution", ("columns", "rows"), n_images)
    for name in _WHOLE:
        if not (table[name] == np.floor(table[name])).all():
            refuse("number", "expected whole numbers for slice, dynamic, index and size; the file is damaged")
    return ParHeader(general, table)


def _version(text: bytes) -> dict[str, int]:
    columns = _VERSIONS.get(text.split()[-1].decode("ascii", "replace"))
    if columns is None:
        refuse("version", f"expected a PAR file of version {', '.join(_VERSIONS)}, got another; export one of these")
    return columns


def _general(text: bytes, general: dict[str, tuple[float, ...]]) -> None:
    """Takes the line's numbers if its key is on the list; other lines are never read."""
    key, _, value = text[1:].decode("ascii", "replace").partition(":")
    name = ALLOWED.get(re.sub(r"\s+", " ", key).strip().lower())
    if name is not None:
        general[name] = _numbers(value.split())


def _image(text: bytes, columns: dict[str, int], values: array[float]) -> None:
    fields = text.split()
    if len(fields) <= max(columns.values()):
        refuse("truncated", "expected a whole line for each image, got a shorter one; wait until the file is whole")
    values.extend(_numbers([fields[k] for k in columns.values()]))


def _numbers(fields: list[str] | list[bytes]) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, fields))
    except ValueError:
        numbers = (math.nan,)
    if not all(abs(number) < _ABSURD for number in numbers):
        refuse("number", "expected finite numbers in the PAR file; the file is damaged")
    return numbers


def _spread(
    table: dict[str, NDArray[np.float64]],
    general: dict[str, tuple[float, ...]],
    name: str,
    keys: tuple[str, ...],
    n_images: int,
) -> None:
    """Spreads a general line of V3 over all images; later versions state the value per image."""
    if all(key in table for key in keys):
        return
    if len(general.get(name, ())) != len(keys):
        refuse("no_geometry", "expected the PAR file to state its images' size and thickness; export it again")
    table.update({key: np.full(n_images, number) for key, number in zip(keys, general[name], strict=True)})
