"""Which trials showed the same item, and the newest beta of each.

Knows nothing of images or of averaging: an item is a name, a beta anything that stands for it (a digest, say). The
decoder averages: a non-linear one averages what it decodes from each beta, see ``mindsight.decoding``.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Repeats(Generic[T]):
    """The trials of a session so far, by what they showed."""

    def __init__(self) -> None:
        self._items: dict[tuple[int, int], str] = {}
        self._newest: dict[tuple[int, int], T] = {}

    def declare(self, run: int, trial: int, item: str) -> None:
        """What a trial shows."""
        self._items[run, trial] = item

    def put(self, run: int, trial: int, beta: T, sound: bool = True) -> list[T]:
        """Take a trial's newest beta. Returns the newest betas of the other trials of its item, by run and trial.

        sound : False leaves this beta out of the averages of other trials, not out of its own
        """
        item = self._items.get((run, trial))
        if item is None:
            return []
        self._newest.pop((run, trial), None)
        others = [self._newest[key] for key in sorted(self._newest) if self._items[key] == item]
        if sound:
            self._newest[run, trial] = beta
        return others

    def state(self) -> dict[str, Any]:
        """State for JSON; ``load_state`` continues from it."""
        return {
            "items": [[*key, item] for key, item in self._items.items()],
            "newest": [[*key, beta] for key, beta in self._newest.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self._items = {(run, trial): item for run, trial, item in state["items"]}
        self._newest = {(run, trial): beta for run, trial, beta in state["newest"]}
