"""One volume as bytes: what a console sends, what the blob store keeps. Self-describing, one copy each way at most.

Knows nothing of HTTP, files or queues.

Layout (all numbers little-endian)::

    b"MSV1" | uint32 length of the header | header, JSON padded with spaces | data, x fastest

The header is canonical JSON (sorted keys, no NaN), so the same volume always gives the same bytes and the same digest.
The padding puts the data on a 16-byte boundary. ``mindsight.volume_header`` reads it.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from mindsight.volume import Volume
from mindsight.volume_header import ALIGNMENT, CLOCKS, DTYPES, MAGIC, PREAMBLE_BYTES, read_header, refuse


def encode_volume(volume: Volume) -> bytes:
    """The volume as bytes. Data in Fortran order and little-endian is copied once, other data twice.

    Raises BadVolume if the dtype has no place in the format (half precision, extended precision).
    """
    dtype = volume.data.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        refuse("dtype", f"expected one of {', '.join(DTYPES)}, got {dtype}; convert the data to float32")
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
    for clock in CLOCKS:
        value = getattr(volume, clock)
        fields[clock] = None if value is None else float(value)
    try:
        header = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        refuse("header", "expected finite clocks and slice times; leave out (None) what is not known")
    header += b" " * (-(PREAMBLE_BYTES + len(header)) % ALIGNMENT)
    data_ZYX = np.ascontiguousarray(volume.data.T, dtype=dtype)
    return b"".join((MAGIC, struct.pack("<I", len(header)), header, data_ZYX.data))


def decode_volume(payload: bytes | bytearray | memoryview) -> Volume:
    """The volume of a payload. Its data is a read-only view of ``payload`` in Fortran order: nothing is copied.

    Raises BadVolume, also if the data's length is not exactly the header's.
    """
    header = read_header(payload)
    if len(payload) != header.total_bytes:
        refuse(
            "truncated" if len(payload) < header.total_bytes else "trailing",
            f"expected {header.data_bytes} bytes of data, got {len(payload) - header.offset}; send the payload whole",
        )
    times = header.slice_times_s
    data_XYZ = np.frombuffer(payload, dtype=header.dtype, offset=header.offset).reshape(header.shape, order="F")
    data_XYZ.flags.writeable = False
    return Volume(
        data=data_XYZ,
        affine=np.array(header.affine, dtype=np.float64),
        tr_s=header.tr_s,
        run=header.run,
        index=header.index,
        acquired_s=header.acquired_s,
        arrived_s=header.arrived_s,
        trigger_s=header.trigger_s,
        slice_times_s=None if times is None else np.array(times, dtype=np.float64),
        motion_6=header.motion_6,
    )
