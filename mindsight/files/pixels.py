"""An image's bytes as an array, without an image library where it is a plain PNG. Knows nothing of what it shows.

PNG as in the W3C's recommendation, third edition: 8 bits, grey, RGB or RGBA, not interlaced, which is what Mindsight
writes. Everything else is read by Pillow, where that is installed.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from mindsight.errors import BadRequest, NotInstalled

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 64 * 1024 * 1024
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}


def pixels_of(content: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8. Raises BadRequest (``image.format``), NotInstalled for a kind that needs Pillow."""
    try:
        plain = _plain_png(content)
    except (struct.error, zlib.error, IndexError, ValueError):
        raise BadRequest("expected a whole image, got a damaged one: fetch it again", code="image.format") from None
    return _by_pillow(content) if plain is None else plain


def _plain_png(content: bytes) -> NDArray[np.uint8] | None:
    """None for another kind of image."""
    if not content.startswith(_SIGNATURE):
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if depth != 8 or colour not in _CHANNELS or interlaced or width * height > MAX_PIXELS:
        return None
    packed, at = bytearray(), 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] == b"IDAT":
            packed += content[at + 8 : at + 8 + size]
        at += size + 12
    n = _CHANNELS[colour]
    expected = height * (width * n + 1)
    raw = zlib.decompressobj().decompress(bytes(packed), expected)
    lines = np.frombuffer(raw, np.uint8).reshape(height, width * n + 1)
    pixels_HWC = _unfiltered(lines, n).reshape(height, width, n)
    return np.ascontiguousarray(np.repeat(pixels_HWC, 3, axis=2) if n == 1 else pixels_HWC[..., :3])


def _unfiltered(lines: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Undo the filter of each line (section 9). lines : (H, 1 + bytes), the first the kind of filter"""
    out = np.zeros((len(lines), lines.shape[1] - 1), np.uint8)
    above = np.zeros(out.shape[1], np.uint8)
    for y, line in enumerate(lines):
        kind, row = int(line[0]), line[1:]
        if kind == 0:
            out[y] = row
        elif kind == 1:
            out[y] = np.cumsum(row.reshape(-1, n), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            out[y] = row + above
        elif kind in (3, 4):
            out[y] = _by_pixel(kind, row, above, n)
        else:
            raise ValueError("no such filter")
        above = out[y]
    return out


def _by_pixel(kind: int, row: NDArray[np.uint8], above: NDArray[np.uint8], n: int) -> list[int]:
    """Average (3) or Paeth (4), in which each byte needs the one before it."""
    values: list[int] = row.tolist()
    ups: list[int] = above.tolist()
    for i in range(len(values)):
        left = values[i - n] if i >= n else 0
        up = ups[i]
        if kind == 3:
            guess = (left + up) // 2
        else:
            corner = ups[i - n] if i >= n else 0
            near = left + up - corner
            guess = min((abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner))[2]
        values[i] = (values[i] + guess) & 0xFF
    return values


def _by_pillow(content: bytes) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise NotInstalled(
            "this image is no plain PNG, and needs Pillow, not installed here: pip install pillow"
        ) from None
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except (UnidentifiedImageError, OSError):
        raise BadRequest("expected a PNG or JPEG, got something else", code="image.format") from None
