"""Slices of several series as they come → the slices of whole volumes. Knows nothing of runs.

What is held is bounded: past the bound the oldest volume that is not whole is dropped, and told.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.live_slices import Come, LiveSlices, Positioned
from mindsight.scanner.slice_places import Place
from mindsight.scanner.transports.contract import Trouble

MAX_HELD_BYTES = 1 << 30
MAX_HELD_SLICES = 200_000
MAX_MARKED = 2000  # volumes of a series whose slices are known again


@dataclass(frozen=True, slots=True)
class Stack:
    """All slices of one volume. arrived_s : when the last of them came."""

    series: str
    position: int
    records: tuple[DicomRecord, ...]
    arrived_s: float


@dataclass(slots=True)
class _Series:
    """The volumes that are not whole yet, each by the place of its slices; undecided: slices of no volume yet.

    marks : of the voxels of the slices that came, by volume and place
    """

    numbers: LiveSlices
    undecided: int = 0
    undecided_bytes: int = 0
    partial: dict[int, dict[Place, Come]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    doubled: set[int] = field(default_factory=set)
    marks: dict[int, dict[Place, int]] = field(default_factory=dict)


class SliceGathering:
    """declared : slices of a volume, where they are known beforehand."""

    def __init__(self, declared: int | None, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._declared = declared
        self._series: dict[str, _Series] = {}
        self._max_held_bytes = max_held_bytes
        self._held_slices = 0
        self.held_bytes = 0

    def __contains__(self, series: str) -> bool:
        return series in self._series

    def add(self, series: str, record: DicomRecord, arrived_s: float) -> Iterator[Stack | Trouble]:
        """Raises BadVolume where the slice does not say where it lies, or which it is."""
        held = self._series.setdefault(series, _Series(LiveSlices(self._declared)))
        yield from self._sorted(series, held.numbers.add(record, arrived_s))
        if held.numbers.n_slices is None:
            held.undecided, held.undecided_bytes = held.undecided + 1, held.undecided_bytes + len(record.pixels)
            self._hold(1, len(record.pixels))
        if self._is_over():
            yield from self._undecided(series)
            while self._is_over():
                oldest = next(iter(self._series)) if len(self._series) > 1 else series
                yield from self.drop(oldest, oldest_only=True)

    def finish(self) -> Iterator[Stack | Trouble]:
        for series in list(self._series):
            yield from self._undecided(series)
            yield from self.drop(series)

    def drop(self, series: str, *, oldest_only: bool = False) -> list[Trouble]:
        held = self._series[series]
        told: list[Trouble] = []
        for position in list(held.partial)[: 1 if oldest_only else None]:
            members = held.partial.pop(position)
            self._let_go(members)
            held.whole.add(position)
            text = f"volume {position}: {len(members)} of {held.numbers.n_slices} slices came; dropped"
            told.append(Trouble("volume.incomplete", text, position, lost=True))
        if not told if oldest_only else not held.partial:
            self._hold(-held.undecided, -held.undecided_bytes)
            del self._series[series]
        return told

    def _sorted(self, series: str, positioned: list[Positioned]) -> Iterator[Stack | Trouble]:
        held = self._series[series]
        if positioned:
            self._hold(-held.undecided, -held.undecided_bytes)
            held.undecided = held.undecided_bytes = 0
        for position, come in positioned:
            mark = zlib.crc32(come.record.pixels)
            known = held.marks.setdefault(position, {}).setdefault(come.place, mark)
            if known != mark and position < max(held.marks):
                yield from self._begun_anew(series)
                held.marks[position] = {come.place: mark}
            elif len(held.marks) > MAX_MARKED:
                del held.marks[next(iter(held.marks))]
            members = {} if position in held.whole else held.partial.setdefault(position, {})
            if position in held.whole or come.place in members:
                if position not in held.doubled:
                    held.doubled.add(position)
                    text = f"volume {position}: slices came twice or too late; dropped"
                    yield Trouble("slice.doubled", text, position, lost=known != mark)
                continue
            members[come.place] = come
            self._hold(1, len(come.record.pixels))
            if len(members) == held.numbers.n_slices:
                held.whole.add(position)
                self._let_go(held.partial.pop(position))
                records = tuple(one.record for one in members.values())
                yield Stack(series, position, records, max(one.arrived_s for one in members.values()))

    def _begun_anew(self, series: str) -> list[Trouble]:
        """Numbers that were there come with other voxels: the sender began another run under the same name."""
        held = self._series[series]
        told = []
        for position, members in held.partial.items():
            self._let_go(members)
            text = f"volume {position}: {len(members)} of {held.numbers.n_slices} slices came; dropped"
            told.append(Trouble("volume.incomplete", text, position, lost=True))
        for memory in (held.partial, held.marks, held.whole, held.doubled):
            memory.clear()
        return told

    def _undecided(self, series: str) -> Iterator[Stack | Trouble]:
        return self._sorted(series, self._series[series].numbers.finish())

    def _hold(self, slices: int, n_bytes: int) -> None:
        self._held_slices += slices
        self.held_bytes += n_bytes

    def _let_go(self, members: dict[Place, Come]) -> None:
        self._hold(-len(members), -sum(len(come.record.pixels) for come in members.values()))

    def _is_over(self) -> bool:
        return self.held_bytes > self._max_held_bytes or self._held_slices > MAX_HELD_SLICES
