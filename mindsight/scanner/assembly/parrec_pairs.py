"""PAR/REC pairs of one volume each, in any order → their series, and their position in it.

Knows nothing of files or runs.

Either each header holds the number of its volume in the run; it restarts with each run, while the names (``Dump-NNNN``)
may continue counting. Or every header states that its volume is the first, and only the names count. The second pair
shows which.
"""

from __future__ import annotations

from dataclasses import replace

from mindsight.scanner.assembly.arrivals import NumberedVolume

MAX_HELD = 8
MAX_REMEMBERED = 1000


class PairOrder:
    """Decides between headers and names, for all pairs that are named alike."""

    def __init__(self) -> None:
        self._held: dict[str, NumberedVolume] = {}
        self._names_count: dict[str, bool] = {}

    def add(self, placed: NumberedVolume) -> list[NumberedVolume]:
        """The volumes whose position is known now: none, this one, or the first and this one."""
        names = _name(placed)
        if placed.stated is None:
            return [placed]
        if names in self._names_count:
            return [self._decided(placed)]
        if names not in self._held and placed.stated == 1:
            self._held[names] = placed
            return [self._decided(self._held.pop(next(iter(self._held))))] if len(self._held) > MAX_HELD else []
        first = self._held.pop(names, placed)
        self._names_count[names] = first is not placed and first.stated == placed.stated
        if len(self._names_count) > MAX_REMEMBERED:
            del self._names_count[next(iter(self._names_count))]
        return [self._decided(one) for one in (first, placed)[first is placed :]]

    def finish(self) -> list[NumberedVolume]:
        held, self._held = list(self._held.values()), {}
        return [self._decided(placed) for placed in held]

    def _decided(self, placed: NumberedVolume) -> NumberedVolume:
        assert placed.stated is not None
        if self._names_count.get(_name(placed), False):
            return replace(placed, stated=None)
        ahead = placed.position + 1 - placed.stated
        return replace(placed, series=f"{placed.series} {ahead}", position=placed.stated - 1, stated=None)


def _name(placed: NumberedVolume) -> str:
    """The key of the pairs that count together; each echo counts by itself."""
    return placed.series if placed.echo is None else f"{placed.series} {placed.echo}"
