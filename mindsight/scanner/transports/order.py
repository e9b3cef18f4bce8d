"""One run's volumes, in whatever order they come → in order, with the missing marked.

Knows nothing of series or transports. Time is passed in.
"""

from __future__ import annotations

from mindsight.scanner.transports.contract import Item, RunEnded, Trouble
from mindsight.volume import Volume

MAX_HELD_BYTES = 512 * 1024 * 1024
MAX_AHEAD = 1000


class Sequencer:
    """Holds back what came too early, for at most ``late_s`` seconds and in at most MAX_HELD_BYTES."""

    def __init__(self, run: int, late_s: float, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self.run = run
        self.next_index = 0
        self._late_s = late_s
        self._max_held_bytes = max_held_bytes
        self._held: dict[int, tuple[float, Volume]] = {}
        self._missing: set[int] = set()

    def put(self, volume: Volume, now_s: float) -> list[Item]:
        """What can be told now that this volume is here."""
        index = volume.index
        if index in self._missing:
            return [self._trouble("volume.late", "came after it was declared missing; dropped", index)]
        if index < self.next_index or index in self._held:
            return [self._trouble("volume.doubled", "came twice; the first is kept", index)]
        if index > self.next_index + MAX_AHEAD:
            text = f"is numbered far beyond the next, {self.next_index}; dropped"
            return [self._trouble("volume.number", text, index)]
        self._held[index] = (now_s, volume)
        told = self._in_order()
        while sum(held.data.nbytes for _, held in self._held.values()) > self._max_held_bytes:
            told += self._give_up()
        return told

    def tick(self, now_s: float) -> list[Item]:
        """What can be told now that it is so late."""
        told: list[Item] = []
        while self._held and now_s - min(since_s for since_s, _ in self._held.values()) >= self._late_s:
            told += self._give_up()
        return told

    def end(self) -> list[Item]:
        """What was held back, then that the run has ended."""
        told: list[Item] = []
        while self._held:
            told += self._give_up()
        return [*told, RunEnded(self.run, self.next_index)]

    def _in_order(self) -> list[Item]:
        told: list[Item] = []
        while self.next_index in self._held:
            told.append(self._held.pop(self.next_index)[1])
            self.next_index += 1
        return told

    def _give_up(self) -> list[Item]:
        told: list[Item] = []
        for index in range(self.next_index, min(self._held)):
            self._missing.add(index)
            told.append(self._trouble("volume.missing", "did not come; declared missing", index, missing=True))
        self.next_index = min(self._held)
        return told + self._in_order()

    def _trouble(self, code: str, text: str, index: int, *, missing: bool = False) -> Trouble:
        return Trouble(code, f"run {self.run}: volume {index} {text}", index, self.run, missing)
