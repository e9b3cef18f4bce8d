"""Images as bytes: PNG from pixels, and the kind of an image from its first bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ImageKind = Literal["png", "jpeg", "webp"]
# Pillow's names of what others may hand in; in other formats a file takes the memory of the size that it states before
# that can be looked at
GIVEN_FORMATS = ("PNG", "JPEG")


def png_bytes(pixels_HW3: NDArray[np.uint8], compress_level: int = 6) -> bytes:
    """The same bytes for the same pixels. compress_level : 0 (none) to 9 (smallest), as in zlib."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def image_kind(content: bytes) -> ImageKind | None:
    """None for what is no image of these kinds."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None
