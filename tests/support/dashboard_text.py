"""Whether every text of a page fits: its letters are measured, in the page and on its canvases.

A text that is cut must be cut by the layout (an ellipsis), with its whole in a title. Knows nothing of what is on
the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.dashboard_browser import TWO_FRAMES

HERE = Path(__file__).parent

REMEMBER_PAINTED_TEXT = (HERE / "painted_text.js").read_text()
MISFITS = (HERE / "misfits.js").read_text()


def misfits(page: Any) -> list[str]:
    """Texts that leave their container, or lie on another, once what was drawn last is on the screen."""
    page.evaluate(TWO_FRAMES)
    found: list[str] = page.evaluate(MISFITS)
    return found
