"""Contact sheets: for each trial the image shown, its reconstruction, and the closest candidate.

Knows nothing of files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from mindsight.files.images import image_kind

_SIDE, _GAP, _CAPTION, _MARGIN = 128, 4, 20, 16
_TRIALS_PER_ROW, _ROWS_PER_SHEET = 3, 12
_BACKGROUND, _EMPTY, _TEXT = (16, 18, 22), (34, 37, 43), (210, 214, 220)
_HEADINGS = ("shown", "reconstructed", "closest in the pool")


@dataclass(frozen=True, slots=True)
class TrialImages:
    """One trial on the sheet; None for an image that is not known."""

    caption: str
    stimulus: bytes | None
    reconstruction: bytes | None
    retrieved: bytes | None


def extension(content: bytes) -> str:
    """Suffix of the file name for an image; ``.bin`` for content of another kind."""
    return {"png": ".png", "jpeg": ".jpg", "webp": ".webp", None: ".bin"}[image_kind(content)]


def contact_sheets(trials: Sequence[TrialImages]) -> Iterator[bytes]:
    """PNGs of up to 36 trials each, three images to a trial."""
    per_sheet = _TRIALS_PER_ROW * _ROWS_PER_SHEET
    for start in range(0, len(trials), per_sheet):
        yield _sheet(trials[start : start + per_sheet])


def _sheet(trials: Sequence[TrialImages]) -> bytes:
    cell_width = 3 * _SIDE + 2 * _GAP + _MARGIN
    cell_height = _SIDE + _CAPTION + _MARGIN
    n_columns = min(len(trials), _TRIALS_PER_ROW)
    n_rows = -(-len(trials) // _TRIALS_PER_ROW)
    size = (_MARGIN + n_columns * cell_width, _MARGIN + _CAPTION + n_rows * cell_height)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for column in range(n_columns):
        for k, heading in enumerate(_HEADINGS):
            draw.text((_MARGIN + column * cell_width + k * (_SIDE + _GAP), _MARGIN), heading, fill=_TEXT, font=font)
    for i, trial in enumerate(trials):
        row, column = divmod(i, _TRIALS_PER_ROW)
        x, y = _MARGIN + column * cell_width, _MARGIN + _CAPTION + row * cell_height
        for k, content in enumerate((trial.stimulus, trial.reconstruction, trial.retrieved)):
            sheet.paste(_thumbnail(content), (x + k * (_SIDE + _GAP), y))
        draw.text((x, y + _SIDE + 3), trial.caption, fill=_TEXT, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _thumbnail(content: bytes | None) -> Image.Image:
    if content is not None:
        try:
            with Image.open(io.BytesIO(content)) as image:
                return image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
            pass  # left empty: the archive is written in spite of one broken image
    return Image.new("RGB", (_SIDE, _SIDE), _EMPTY)
