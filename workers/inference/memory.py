"""How much is still drawn in a session once the card's memory was used up: four levels, each needing less of it.

Knows nothing of queues or networks. A level is never taken back within a session, so that images do not change back and
forth; the next session starts with the whole.
"""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """What is drawn of each trial."""

    WHOLE = 0
    SPARING = 1
    PREVIEW = 2
    NOTHING = 3


_FROM_HERE = {
    Level.SPARING: "images are drawn with half the batch, which takes longer",
    Level.PREVIEW: "only the preview of each image is drawn",
    Level.NOTHING: "no image is drawn; results are not affected",
}


class Levels:
    """The level of each session."""

    def __init__(self) -> None:
        self._levels: dict[str, Level] = {}

    def of(self, session: str) -> Level:
        return self._levels.get(session, Level.WHOLE)

    def lower(self, session: str) -> Level:
        """Draw less from now on; returns the new level."""
        level = self._levels[session] = Level(min(self.of(session) + 1, Level.NOTHING))
        return level


def text_of(level: Level, device: str) -> str:
    """For the session's log: what changes, and what to do."""
    return (
        f"the memory of {device} is used up; from here on {_FROM_HERE[level]}. Before the next session, end other"
        " programs that use this device, leave out refinement or captions, or choose a card with more memory"
    )
