"""Slices of several series as they arrive → the slices of whole volumes. Knows nothing of runs.

Memory is bounded: beyond the bound the oldest incomplete volume is dropped, with a warning.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.assembly.live_slices import ArrivedSlice, LiveSlices, Positioned
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.slice_locations import SliceLocation

MAX_HELD_BYTES = 1 << 30
MAX_HELD_SLICES = 200_000
MAX_MARKED = 2000  # volumes of a series whose slices are recognised when they repeat


@dataclass(frozen=True, slots=True)
class Stack:
    """All slices of one volume. arrived_s : when the last of them arrived."""

    series: str
    position: int
    records: tuple[DicomRecord, ...]
    arrived_s: float


@dataclass(slots=True)
class _Series:
    """The slices of one series.

    undecided : slices whose volume is not known yet
    partial : incomplete volumes; slices by location
    marks : checksums of the voxels of slices that arrived, by volume and location
    """

    numbers: LiveSlices
    undecided: int = 0
    undecided_bytes: int = 0
    partial: dict[int, dict[SliceLocation, ArrivedSlice]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    doubled: set[int] = field(default_factory=set)
    marks: dict[int, dict[SliceLocation, int]] = field(default_factory=dict)


class SliceGathering:
    """Gathers slices into volumes. declared : number of slices in a volume, if it is known beforehand."""

    def __init__(self, declared: int | None, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._declared = declared
        self._series: dict[str, _Series] = {}
        self._max_held_bytes = max_held_bytes
        self._held_slices = 0
        self.held_bytes = 0

    def __contains__(self, series: str) -> bool:
        return series in self._series

    def add(self, series: str, record: DicomRecord, arrived_s: float) -> Iterator[Stack | TransportWarning]:
        """The volumes that are complete now. Raises BadVolume if the slice has no position, or no number."""
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

    def finish(self) -> Iterator[Stack | TransportWarning]:
        for series in list(self._series):
            yield from self._undecided(series)
            yield from self.drop(series)

    def drop(self, series: str, *, oldest_only: bool = False) -> list[TransportWarning]:
        held = self._series[series]
        warnings: list[TransportWarning] = []
        for position in list(held.partial)[: 1 if oldest_only else None]:
            members = held.partial.pop(position)
            self._let_go(members)
            held.whole.add(position)
            warnings.append(_incomplete(position, len(members), held.numbers.n_slices))
        if not warnings if oldest_only else not held.partial:
            self._hold(-held.undecided, -held.undecided_bytes)
            del self._series[series]
        return warnings

    def _sorted(self, series: str, positioned: list[Positioned]) -> Iterator[Stack | TransportWarning]:
        held = self._series[series]
        if positioned:
            self._hold(-held.undecided, -held.undecided_bytes)
            held.undecided = held.undecided_bytes = 0
        for position, arrived in positioned:
            mark = zlib.crc32(arrived.record.pixels)
            known = held.marks.setdefault(position, {}).setdefault(arrived.location, mark)
            if known != mark and position < max(held.marks):
                yield from self._restarted(series)
                held.marks[position] = {arrived.location: mark}
            elif len(held.marks) > MAX_MARKED:
                del held.marks[next(iter(held.marks))]
            members = {} if position in held.whole else held.partial.setdefault(position, {})
            if position in held.whole or arrived.location in members:
                if position not in held.doubled:
                    held.doubled.add(position)
                    text = f"volume {position}: dropped slices that arrived twice or too late; check the sender"
                    yield TransportWarning("slice.doubled", text, position, lost=known != mark)
                continue
            members[arrived.location] = arrived
            self._hold(1, len(arrived.record.pixels))
            if len(members) == held.numbers.n_slices:
                held.whole.add(position)
                self._let_go(held.partial.pop(position))
                records = tuple(one.record for one in members.values())
                yield Stack(series, position, records, max(one.arrived_s for one in members.values()))

    def _restarted(self, series: str) -> list[TransportWarning]:
        """Known numbers arrive with other voxels: the sender began another run under the same name."""
        held = self._series[series]
        warnings = []
        for position, members in held.partial.items():
            self._let_go(members)
            warnings.append(_incomplete(position, len(members), held.numbers.n_slices))
        for memory in (held.partial, held.marks, held.whole, held.doubled):
            memory.clear()
        return warnings

    def _undecided(self, series: str) -> Iterator[Stack | TransportWarning]:
        return self._sorted(series, self._series[series].numbers.finish())

    def _hold(self, slices: int, n_bytes: int) -> None:
        self._held_slices += slices
        self.held_bytes += n_bytes

    def _let_go(self, members: dict[SliceLocation, ArrivedSlice]) -> None:
        self._hold(-len(members), -sum(len(arrived.record.pixels) for arrived in members.values()))

    def _is_over(self) -> bool:
        return self.held_bytes > self._max_held_bytes or self._held_slices > MAX_HELD_SLICES


def _incomplete(position: int, n_arrived: int, n_slices: int | None) -> TransportWarning:
    text = f"dropped volume {position}: only {n_arrived} of {n_slices} slices arrived; check the sender"
    return TransportWarning("volume.incomplete", text, position, lost=True)
