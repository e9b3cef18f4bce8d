"""One volume as bytes: what a console sends, what the blob store keeps. Self-describing, one copy each way at most.

Knows nothing of HTTP, files or queues.

Layout (all numbers little-endian)::

    b"MSV1" | uint32 length of the header | header, JSON padded with spaces | data, x fastest

The header is canonical JSON (sorted keys, no NaN), so the same volume always gives the same bytes and the same digest.
The padding puts the data on a 16-byte boundary.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.volume import MAX_SIDE, Volume

MAGIC = b"MSV1"
PREAMBLE_BYTES = 8
MAX_HEADER_BYTES = 64 * 1024
"""A payload's first ``PREAMBLE_BYTES + MAX_HEADER_BYTES`` bytes always hold its header."""

_ALIGNMENT = 16
_DTYPES = {
    np.dtype(code).str: np.dtype(code) for code in ("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")
}
_CLOCKS = ("acquired_s", "arrived_s", "trigger_s")
_KEYS = frozenset({"shape", "dtype", "affine", "tr_s", "run", "index", "slice_times_s", *_CLOCKS})
_OPTIONAL = frozenset({"motion_6"})  # absent if None, so that the bytes of other volumes stay the same


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """Everything of an encoded volume but its voxels; units and meaning as in ``Volume``.

    offset : where the data starts in the payload
    data_bytes : how many bytes of data there are; the payload is ``offset + data_bytes`` long, ``total_bytes``
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    tr_s: float
    run: int
    index: int
    acquired_s: float | None
    arrived_s: float | None
    trigger_s: float | None
    slice_times_s: NDArray[np.float64] | None
    motion_6: tuple[float, ...] | None
    offset: int
    data_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.offset + self.data_bytes


def encode_volume(volume: Volume) -> bytes:
    """The volume as bytes. Data in Fortran order and little-endian is copied once, other data twice.

    Raises BadVolume if the dtype has no place in the format (half precision, extended precision).
    """
    dtype = volume.data.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES:
        _refuse("dtype", f"expected one of {', '.join(_DTYPES)}, got {dtype}; convert the data to float32")
    times = volume.slice_times_s
    fields = {
        "shape": list(volume.shape),
        "dtype": dtype.str,
        "affine": volume.affine.tolist(),
        "tr_s": float(volume.tr_s),
        "run": int(volume.run),
        "index": int(volume.index),
        "slice_times_s": None if times is None else np.asarray(times, dtype=np.float64).tolist(),
    }
    if volume.motion_6 is not None:
        fields["motion_6"] = [float(value) for value in volume.motion_6]
    for clock in _CLOCKS:
        value = getattr(volume, clock)
        fields[clock] = None if value is None else float(value)
    try:
        header = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        _refuse("header", "expected finite clocks and slice times; leave out (None) what is not known")
    header += b" " * (-(PREAMBLE_BYTES + len(header)) % _ALIGNMENT)
    data_ZYX = np.ascontiguousarray(volume.data.T, dtype=dtype)
    return b"".join((MAGIC, struct.pack("<I", len(header)), header, data_ZYX.data))


def read_header(prefix: bytes | bytearray | memoryview) -> VolumeHeader:
    """The validated header of a payload, from all of it or from its beginning; the data need not be there.

    ``header.total_bytes`` then says how long the payload has to be. Raises BadVolume.
    """
    view = memoryview(prefix)
    if len(view) < PREAMBLE_BYTES or view[:4] != MAGIC:
        _refuse("magic", f"expected a payload that starts with {MAGIC!r} and a length, got {bytes(view[:4])!r}")
    (length,) = struct.unpack_from("<I", view, 4)
    if length > MAX_HEADER_BYTES:
        _refuse("header", f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}")
    offset = PREAMBLE_BYTES + length
    if len(view) < offset:
        _refuse("truncated", f"expected a header of {length} bytes, got {len(view) - PREAMBLE_BYTES}; send it whole")
    if offset % _ALIGNMENT:
        _refuse("header", f"expected the data at a multiple of {_ALIGNMENT} bytes, got {offset}; pad with spaces")
    fields = _parse_json(bytes(view[PREAMBLE_BYTES:offset]))
    return _validated(fields, offset)


def decode_volume(payload: bytes | bytearray | memoryview) -> Volume:
    """The volume of a payload. Its data is a read-only view of ``payload`` in Fortran order: nothing is copied.

    Raises BadVolume, also if the data's length is not exactly the header's.
    """
    header = read_header(payload)
    if len(payload) != header.total_bytes:
        _refuse(
            "truncated" if len(payload) < header.total_bytes else "trailing",
            f"expected {header.data_bytes} bytes of data, got {len(payload) - header.offset}; send the payload whole",
        )
    data_XYZ = np.frombuffer(payload, dtype=header.dtype, offset=header.offset).reshape(header.shape, order="F")
    data_XYZ.flags.writeable = False
    return Volume(
        data=data_XYZ,
        affine=header.affine,
        tr_s=header.tr_s,
        run=header.run,
        index=header.index,
        acquired_s=header.acquired_s,
        arrived_s=header.arrived_s,
        trigger_s=header.trigger_s,
        slice_times_s=header.slice_times_s,
        motion_6=header.motion_6,
    )


def _refuse(what: str, message: str) -> NoReturn:
    raise BadVolume(message, code=f"volume.payload_{what}")


def _parse_json(text: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        fields = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        _refuse("header", "expected a header in JSON, got something that does not parse")
    if not isinstance(fields, dict) or fields.keys() - _OPTIONAL != _KEYS:
        _refuse("header", f"expected a header with exactly the keys {', '.join(sorted(_KEYS))}, or motion_6 too")
    return fields


def _validated(fields: dict[str, Any], offset: int) -> VolumeHeader:
    shape = fields["shape"]
    if not (isinstance(shape, list) and len(shape) == 3 and all(_is_int(n) and 1 <= n <= MAX_SIDE for n in shape)):
        _refuse("header", f"expected a shape of three sides from 1 to {MAX_SIDE}")
    dtype = _DTYPES.get(fields["dtype"]) if isinstance(fields["dtype"], str) else None
    if dtype is None:
        _refuse("dtype", f"expected one of {', '.join(_DTYPES)}")
    affine = fields["affine"]
    if not (isinstance(affine, list) and len(affine) == 4 and all(_is_row(row, 4) for row in affine)):
        _refuse("header", "expected an affine of 4 rows of 4 numbers")
    if not (_is_number(fields["tr_s"]) and _is_int(fields["run"]) and _is_int(fields["index"])):
        _refuse("header", "expected tr_s to be a number, run and index to be whole numbers")
    clocks = {clock: fields[clock] for clock in _CLOCKS}
    if not all(value is None or _is_number(value) for value in clocks.values()):
        _refuse("header", f"expected {', '.join(_CLOCKS)} to be numbers or null")
    times = fields["slice_times_s"]
    if not (times is None or _is_row(times, shape[2])):
        _refuse("header", f"expected slice_times_s to be null or {shape[2]} numbers, one for each slice")
    motion = fields.get("motion_6")
    if "motion_6" in fields and not _is_row(motion, 6):
        _refuse("header", "expected motion_6 to be 6 numbers, or to be left out")

    x, y, z = shape
    # A volume of the same shape that takes no memory: what Volume demands is stated in one place.
    volume = Volume(
        data=np.broadcast_to(np.zeros((), dtype), (x, y, z)),
        affine=np.array(affine, dtype=np.float64),
        tr_s=float(fields["tr_s"]),
        run=fields["run"],
        index=fields["index"],
    )
    return VolumeHeader(
        shape=volume.shape,
        dtype=dtype,
        affine=volume.affine,
        tr_s=volume.tr_s,
        run=volume.run,
        index=volume.index,
        **{clock: None if value is None else float(value) for clock, value in clocks.items()},
        slice_times_s=None if times is None else np.array(times, dtype=np.float64),
        motion_6=None if motion is None else tuple(map(float, motion)),
        offset=offset,
        data_bytes=x * y * z * dtype.itemsize,
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_row(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(number) for number in value)
