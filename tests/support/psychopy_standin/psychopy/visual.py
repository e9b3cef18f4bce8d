from __future__ import annotations

from typing import Any

screens: list[tuple[str, ...]] = []
"""What was drawn at each flip."""


class Window:
    def __init__(self, **given: Any) -> None:
        self.drawn: list[str] = []

    def flip(self) -> None:
        screens.append(tuple(self.drawn))
        self.drawn = []

    def close(self) -> None:
        screens.append(("closed",))


class TextStim:
    def __init__(self, window: Window, *, text: str) -> None:
        self._window, self._what = window, text

    def draw(self) -> None:
        self._window.drawn.append(self._what)


class ImageStim(TextStim):
    def __init__(self, window: Window, *, image: str, size: float) -> None:
        super().__init__(window, text=image.rpartition("/")[2])
