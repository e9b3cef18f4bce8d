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

    def add(self, numbered: NumberedVolume) -> list[NumberedVolume]:
        """The volumes whose position is known now: none, this one, or the first and this one."""
        names = _name(numbered)
        if numbered.stated is None:
            return [numbered]
        if names in self._names_count:
            return [self._decided(numbered)]
        if names not in self._held and numbered.stated == 1:
            self._held[names] = numbered
            return [self._decided(self._held.pop(next(iter(self._held))))] if len(self._held) > MAX_HELD else []
        first = self._held.pop(names, numbered)
        self._names_count[names] = first is not numbered and first.stated == numbered.stated
        if len(self._names_count) > MAX_REMEMBERED:
            del self._names_count[next(iter(self._names_count))]
        return [self._decided(one) for one in (first, numbered)[first is numbered :]]

    def finish(self) -> list[NumberedVolume]:
        held, self._held = list(self._held.values()), {}
        return [self._decided(numbered) for numbered in held]

    def _decided(self, numbered: NumberedVolume) -> NumberedVolume:
        assert numbered.stated is not None
        if self._names_count.get(_name(numbered), False):
            return replace(numbered, stated=None)
        ahead = numbered.position + 1 - numbered.stated
        return replace(numbered, series=f"{numbered.series} {ahead}", position=numbered.stated - 1, stated=None)


def _name(numbered: NumberedVolume) -> str:
    """The key of the pairs that count together; each echo counts by itself."""
    return numbered.series if numbered.echo is None else f"{numbered.series} {numbered.echo}"
