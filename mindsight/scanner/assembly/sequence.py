"""One run's volumes in any order → in order, with missing ones marked.

Knows nothing of series or transports. Time is passed in.
"""

from __future__ import annotations

from mindsight.scanner.assembly.items import Item, RunEnded, TransportWarning
from mindsight.volume import Volume

MAX_HELD_BYTES = 512 * 1024 * 1024
MAX_AHEAD = 1000


class Sequencer:
    """Holds back volumes that arrive early, for at most ``late_s`` seconds and in at most MAX_HELD_BYTES."""

    def __init__(self, run: int, late_s: float, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self.run = run
        self.next_index = 0
        self._late_s = late_s
        self._max_held_bytes = max_held_bytes
        self._held: dict[int, tuple[float, Volume]] = {}
        self._missing: set[int] = set()

    def put(self, volume: Volume, now_s: float) -> list[Item]:
        """The volumes that are next now that this one has arrived, with warnings."""
        index = volume.index
        if index in self._missing:
            return [
                self._warning(
                    "volume.late", "arrived after it was declared missing and was dropped; raise late=", index
                )
            ]
        if index < self.next_index or index in self._held:
            return [
                self._warning(
                    "volume.doubled", "arrived twice; the first is kept, check that one sender sends it", index
                )
            ]
        if index > self.next_index + MAX_AHEAD:
            text = f"is numbered far beyond the next one, {self.next_index}; dropped, check the sender's numbering"
            return [self._warning("volume.number", text, index)]
        self._held[index] = (now_s, volume)
        items = self._in_order()
        while sum(held.data.nbytes for _, held in self._held.values()) > self._max_held_bytes:
            items += self._give_up()
        return items

    def tick(self, now_s: float) -> list[Item]:
        """The volumes that have waited long enough; those missing before them are declared so."""
        items: list[Item] = []
        while self._held and now_s - min(since_s for since_s, _ in self._held.values()) >= self._late_s:
            items += self._give_up()
        return items

    def end(self) -> list[Item]:
        """The volumes that were held back, then the end of the run."""
        items: list[Item] = []
        while self._held:
            items += self._give_up()
        return [*items, RunEnded(self.run, self.next_index)]

    def _in_order(self) -> list[Item]:
        items: list[Item] = []
        while self.next_index in self._held:
            items.append(self._held.pop(self.next_index)[1])
            self.next_index += 1
        return items

    def _give_up(self) -> list[Item]:
        items: list[Item] = []
        for index in range(self.next_index, min(self._held)):
            self._missing.add(index)
            items.append(
                self._warning(
                    "volume.missing",
                    "did not arrive and is declared missing; check the export, or raise late=",
                    index,
                    missing=True,
                )
            )
        self.next_index = min(self._held)
        return items + self._in_order()

    def _warning(self, code: str, text: str, index: int, *, missing: bool = False) -> TransportWarning:
        return TransportWarning(code, f"run {self.run}: volume {index} {text}", index, self.run, missing)
