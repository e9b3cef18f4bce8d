"""Contact sheets: for each trial the image shown, its reconstruction, and the closest candidate, each with its figures.

Knows nothing of files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from mindsight.files.images import image_kind

_SIDE, _GAP, _LINE, _MARGIN = 128, 4, 16, 16
_CAPTION = 3 * _LINE + 4
_TRIALS_PER_ROW, _ROWS_PER_SHEET = 3, 12
_BACKGROUND, _EMPTY, _TEXT = (16, 18, 22), (34, 37, 43), (210, 214, 220)
_HEADINGS = ("shown", "reconstructed", "closest in the pool")


@dataclass(frozen=True, slots=True)
class Tile:
    """One image, None if it is not known, and up to three lines below it, cut where they are too long."""

    image: bytes | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialImages:
    """One trial on the sheet."""

    stimulus: Tile
    reconstruction: Tile
    retrieved: Tile


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
    heading = _LINE + 4
    size = (_MARGIN + n_columns * cell_width, _MARGIN + heading + n_rows * cell_height)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for column in range(n_columns):
        for k, text in enumerate(_HEADINGS):
            draw.text((_MARGIN + column * cell_width + k * (_SIDE + _GAP), _MARGIN), text, fill=_TEXT, font=font)
    for i, trial in enumerate(trials):
        row, column = divmod(i, _TRIALS_PER_ROW)
        x, y = _MARGIN + column * cell_width, _MARGIN + heading + row * cell_height
        for k, tile in enumerate((trial.stimulus, trial.reconstruction, trial.retrieved)):
            left = x + k * (_SIDE + _GAP)
            sheet.paste(_thumbnail(tile.image), (left, y))
            for n, line in enumerate(tile.lines):
                draw.text((left, y + _SIDE + 3 + n * _LINE), _cut(line, font), fill=_TEXT, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _cut(line: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """As much of a line as fits under its image."""
    if font.getlength(line) <= _SIDE:
        return line
    n = next(n for n in range(len(line), -1, -1) if font.getlength(line[:n] + "…") <= _SIDE)
    return line[:n] + "…"


def _thumbnail(content: bytes | None) -> Image.Image:
    if content is not None:
        try:
            with Image.open(io.BytesIO(content)) as image:
                return image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
            pass  # left empty: the archive is written in spite of one broken image
    return Image.new("RGB", (_SIDE, _SIDE), _EMPTY)
