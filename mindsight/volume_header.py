"""What stands before an encoded volume's voxels: read and checked, without numpy, by whoever only passes it on.

Knows nothing of HTTP, files or queues. ``mindsight.volume_codec`` has the layout, and the voxels.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

from mindsight.errors import BadVolume
from mindsight.volume_bounds import MAX_SIDE, require_numbers, require_place, require_sides

MAGIC = b"MSV1"
PREAMBLE_BYTES = 8
MAX_HEADER_BYTES = 64 * 1024
"""A payload's first ``PREAMBLE_BYTES + MAX_HEADER_BYTES`` bytes always hold its header."""

ALIGNMENT = 16
DTYPES = {"|i1": 1, "|u1": 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8, "<f4": 4, "<f8": 8}
"""Name as numpy's ``dtype.str`` -> bytes of a voxel."""

CLOCKS = ("acquired_s", "arrived_s", "trigger_s")
_KEYS = frozenset({"shape", "dtype", "affine", "tr_s", "run", "index", "slice_times_s", *CLOCKS})
_OPTIONAL = frozenset({"motion_6"})  # absent if None, so that the bytes of other volumes stay the same


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """Everything of an encoded volume but its voxels; units and meaning as in ``Volume``, arrays as lists.

    dtype : of the voxels, as numpy names it ("<i2"); one of ``DTYPES``
    offset : where the data starts in the payload
    data_bytes : how many bytes of data there are; the payload is ``offset + data_bytes`` long, ``total_bytes``
    """

    shape: tuple[int, int, int]
    dtype: str
    affine: list[list[float]]
    tr_s: float
    run: int
    index: int
    acquired_s: float | None
    arrived_s: float | None
    trigger_s: float | None
    slice_times_s: list[float] | None
    motion_6: tuple[float, ...] | None
    offset: int
    data_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.offset + self.data_bytes


def read_header(prefix: bytes | bytearray | memoryview) -> VolumeHeader:
    """The validated header of a payload, from all of it or from its beginning; the data need not be there.

    ``header.total_bytes`` then says how long the payload has to be. Raises BadVolume.
    """
    view = memoryview(prefix)
    if len(view) < PREAMBLE_BYTES or view[:4] != MAGIC:
        refuse("magic", f"expected a payload that starts with {MAGIC!r} and a length, got {bytes(view[:4])!r}")
    (length,) = struct.unpack_from("<I", view, 4)
    if length > MAX_HEADER_BYTES:
        refuse("header", f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}")
    offset = PREAMBLE_BYTES + length
    if len(view) < offset:
        refuse("truncated", f"expected a header of {length} bytes, got {len(view) - PREAMBLE_BYTES}; send it whole")
    if offset % ALIGNMENT:
        refuse("header", f"expected the data at a multiple of {ALIGNMENT} bytes, got {offset}; pad with spaces")
    fields = _parse_json(bytes(view[PREAMBLE_BYTES:offset]))
    return _validated(fields, offset)


def refuse(what: str, message: str) -> NoReturn:
    """Raises BadVolume (``volume.payload_<what>``)."""
    raise BadVolume(message, code=f"volume.payload_{what}")


def _parse_json(text: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        fields = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        refuse("header", "expected a header in JSON, got something that does not parse")
    if not isinstance(fields, dict) or fields.keys() - _OPTIONAL != _KEYS:
        refuse("header", f"expected a header with exactly the keys {', '.join(sorted(_KEYS))}, or motion_6 too")
    return fields


def _validated(fields: dict[str, Any], offset: int) -> VolumeHeader:
    shape = fields["shape"]
    if not (isinstance(shape, list) and len(shape) == 3 and all(_is_int(n) and 1 <= n <= MAX_SIDE for n in shape)):
        refuse("header", f"expected a shape of three sides from 1 to {MAX_SIDE}")
    dtype = fields["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse("dtype", f"expected one of {', '.join(DTYPES)}")
    affine = fields["affine"]
    if not (isinstance(affine, list) and len(affine) == 4 and all(_is_row(row, 4) for row in affine)):
        refuse("header", "expected an affine of 4 rows of 4 numbers")
    if not (_is_number(fields["tr_s"]) and _is_int(fields["run"]) and _is_int(fields["index"])):
        refuse("header", "expected tr_s to be a number, run and index to be whole numbers")
    clocks = {clock: fields[clock] for clock in CLOCKS}
    if not all(value is None or _is_number(value) for value in clocks.values()):
        refuse("header", f"expected {', '.join(CLOCKS)} to be numbers or null")
    times = fields["slice_times_s"]
    if not (times is None or _is_row(times, shape[2])):
        refuse("header", f"expected slice_times_s to be null or {shape[2]} numbers, one for each slice")
    motion = fields.get("motion_6")
    if "motion_6" in fields and not _is_row(motion, 6):
        refuse("header", "expected motion_6 to be 6 numbers, or to be left out")

    x, y, z = shape
    header = VolumeHeader(
        shape=(x, y, z),
        dtype=dtype,
        affine=[[float(number) for number in row] for row in affine],
        tr_s=float(fields["tr_s"]),
        run=fields["run"],
        index=fields["index"],
        **{clock: None if value is None else float(value) for clock, value in clocks.items()},
        slice_times_s=None if times is None else [float(time_s) for time_s in times],
        motion_6=None if motion is None else tuple(map(float, motion)),
        offset=offset,
        data_bytes=x * y * z * DTYPES[dtype],
    )
    require_sides(header.shape)
    require_place(header.affine)
    require_numbers(header.tr_s, header.run, header.index, header.motion_6)
    return header


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_row(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(number) for number in value)
