"""RLE Lossless of DICOM (PS3.5 Annex G) → raw values, never more than the header promises.

Knows nothing of DICOM's elements. Two bytes can encode 128, and segments may overlap, so each segment is decoded only
up to its expected length.
"""

from __future__ import annotations

import struct

import numpy as np

from mindsight.errors import BadVolume

MAX_SEGMENTS = 15
_HEADER_BYTES = 64


def decode_frame(encoded: bytes, n_pixels: int, bytes_per_pixel: int) -> bytes:
    """(n_pixels × bytes_per_pixel) little-endian bytes. Raises BadVolume (``dicom.truncated``)."""
    if len(encoded) < _HEADER_BYTES:
        raise _damaged()
    n_segments, *offsets = struct.unpack(f"<{1 + MAX_SEGMENTS}L", encoded[:_HEADER_BYTES])
    if n_segments != bytes_per_pixel:
        raise _damaged()
    bounds = [min(offset, len(encoded)) for offset in (*offsets[:n_segments], len(encoded))]
    out_PB = np.empty((n_pixels, bytes_per_pixel), np.uint8)
    for k in range(n_segments):  # the most significant byte's segment comes first
        segment = _segment(encoded, bounds[k], bounds[k + 1], n_pixels)
        out_PB[:, bytes_per_pixel - 1 - k] = np.frombuffer(segment, np.uint8)
    return out_PB.tobytes()


def _segment(encoded: bytes, at: int, end: int, n_bytes: int) -> bytearray:
    out = bytearray()
    while len(out) < n_bytes:
        if not _HEADER_BYTES <= at < end - 1:
            raise _damaged()
        code = encoded[at]
        if code < 128:
            out += encoded[at + 1 : min(at + 2 + code, end)]
            at += 2 + code
        elif code > 128:
            out += encoded[at + 1 : at + 2] * (257 - code)
            at += 2
        else:
            at += 1
    return out[:n_bytes]


def _damaged() -> BadVolume:
    return BadVolume(
        "expected whole RLE-compressed pixel data, got damaged data; send the file again", code="dicom.truncated"
    )
