"""PNG without an image library, beside Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mindsight.errors import BadRequest
from mindsight.files.pixels import pixels_of


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_it_reads_what_pillow_writes(mode: str, kind: str) -> None:
    """A smooth image makes the writer use every filter."""
    rng = np.random.default_rng(3)
    smooth = np.add.outer(np.arange(31) * 3, np.arange(40) * 2)[..., None] + np.array([0, 20, 90])
    pixels = rng.integers(0, 256, (31, 40, 3)) if kind == "noise" else smooth + rng.integers(0, 3, (31, 40, 3))
    image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    assert np.array_equal(pixels_of(buffer.getvalue()), np.asarray(image.convert("RGB")))


def test_every_filter_is_undone() -> None:
    from mindsight.files.pixels import _unfiltered

    rng = np.random.default_rng(4)
    rows = rng.integers(0, 256, (5, 12), dtype=np.uint8)
    filtered = np.zeros((5, 13), np.uint8)
    for y, kind in enumerate((1, 2, 3, 4, 0)):
        above = rows[y - 1] if y else np.zeros(12, np.uint8)
        filtered[y, 0] = kind
        for i in range(12):
            left, corner = (int(rows[y, i - 3]), int(above[i - 3])) if i >= 3 else (0, 0)
            up = int(above[i])
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            guess = {0: 0, 1: left, 2: up, 3: (left + up) // 2, 4: paeth}[kind]
            filtered[y, 1 + i] = (int(rows[y, i]) - guess) & 0xFF
    assert np.array_equal(_unfiltered(filtered, 3), rows)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest):
        pixels_of(content)
