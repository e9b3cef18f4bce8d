"""PNG bytes that stay the same, and kinds by first bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mindsight.files.images import image_kind, png_bytes


@pytest.mark.parametrize("level", [1, 6])
def test_png_bytes_hold_the_pixels(level: int) -> None:
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content = png_bytes(pixels_HW3, level)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels_HW3)
    assert content == png_bytes(pixels_HW3, level)


@pytest.mark.parametrize(("format", "kind"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", None)])
def test_the_kind_of_what_pillow_writes(format: str, kind: str | None) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format)
    assert image_kind(buffer.getvalue()) == kind
    assert image_kind(buffer.getvalue()[:2]) is None
