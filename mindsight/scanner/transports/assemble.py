"""DICOM objects and volumes in whatever order they come, of several series mixed → runs of whole volumes.

Knows nothing of how they come. Time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.deidentify import DicomRecord, read_dicom
from mindsight.scanner.dicom_series import record_volume
from mindsight.scanner.enhanced import enhanced_positions, enhanced_volumes, is_enhanced
from mindsight.scanner.files import stated_tr
from mindsight.scanner.kinds import kind_of
from mindsight.scanner.mosaic import is_mosaic
from mindsight.scanner.slices import slice_place, slices_volume, volume_number
from mindsight.scanner.transports.arrivals import Arrival, Ended, Placed
from mindsight.scanner.transports.contract import Expected, Item, Trouble
from mindsight.scanner.transports.guard import guarded
from mindsight.scanner.transports.pairs import PairOrder
from mindsight.scanner.transports.runs import Runs
from mindsight.volume import MAX_SIDE, Volume

MAX_HELD_BYTES = 1 << 30
MAX_HELD_SLICES = 200_000


@dataclass(slots=True)
class _Slices:
    """The volumes of one series that are not whole yet, each by the place of its slices."""

    n_slices: int
    numbered: bool
    partial: dict[int, dict[tuple[float, ...], DicomRecord]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    doubled: set[int] = field(default_factory=set)


class Assembler:
    """Arrivals in, volumes in order and troubles out. What cannot be read is told, and hinders nothing."""

    def __init__(
        self, expected: Expected, late_s: float, run: int = 1, *, max_held_bytes: int = MAX_HELD_BYTES
    ) -> None:
        self._expected = expected
        self._runs = Runs(expected, late_s, run)
        self._pairs = PairOrder()
        self._slices: dict[str, _Slices] = {}
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._held_slices = 0

    def add(self, arrival: Arrival | Trouble, now_s: float) -> Sequence[Item]:
        if isinstance(arrival, Trouble):
            return [arrival]
        return _told(lambda: self._added(arrival, now_s), f"object {arrival.number}: " if arrival.number else "")

    def tick(self, now_s: float) -> Sequence[Item]:
        return _told(lambda: self._runs.tick(now_s))

    def finish(self) -> Sequence[Item]:
        told = _told(lambda: self._placed(self._pairs.finish(), 0.0))
        for series in list(self._slices):
            told += _told(partial(self._drop, series))
        return [*told, *_told(self._runs.finish)]

    def _added(self, arrival: Arrival, now_s: float) -> Iterable[Item]:
        content = arrival.content
        if isinstance(content, Ended):
            return self._runs.end(content.series)
        if isinstance(content, Placed):
            come = replace(content, volume=replace(content.volume, arrived_s=arrival.arrived_s))
            return self._placed(self._pairs.add(come), now_s)
        record = read_dicom(content) if isinstance(content, bytes) else content
        return self._record(record, arrival.arrived_s, now_s)

    def _placed(self, decided: Sequence[Placed], now_s: float) -> Iterator[Item]:
        for placed in decided:
            why_not = self._expected.why_not_kind(placed.kind)
            if why_not is not None:  # MURFI's senders put raw and corrected volumes into one series
                yield from self._runs.ignore(f"{placed.series} {placed.kind}", why_not)
            else:
                yield from self._runs.add(placed.series, placed.position, placed.volume, now_s, is_run=placed.is_run)

    def _record(self, record: DicomRecord, arrived_s: float, now_s: float) -> Iterable[Item]:
        series, why_not = record.series, self._why_not(record)
        if why_not is not None:
            # Philips puts magnitude and phase into one series.
            return self._runs.ignore(f"{series} {kind_of(record)}", why_not)
        if self._runs.is_over(series):
            if series in self._slices:
                self._drop(series)
            if not (is_mosaic(record) or is_enhanced(record)):
                return []
        if not (is_mosaic(record) or is_enhanced(record)):
            return self._slice(record, arrived_s, now_s)
        number = record.acquisition_number if record.instance_number is None else record.instance_number
        if number is None:
            raise BadVolume("expected an instance or acquisition number, got none", code="dicom.no_number")
        n_volumes = len(enhanced_positions(record)) if is_enhanced(record) else 1
        if n_volumes == 1:
            volume = record_volume(record, 1, 0, record.tr_s or self._expected.tr_s)
            return self._runs.add(series, number - 1, replace(volume, arrived_s=arrived_s), now_s)
        # Several volumes in one object: a whole run, sent when it is over. Objects of one size follow one another.
        return self._several(record, (number - 1) * n_volumes, arrived_s, now_s)

    def _several(self, record: DicomRecord, first: int, arrived_s: float, now_s: float) -> Iterator[Item]:
        tr_s = stated_tr(None, record.tr_s or self._expected.tr_s)
        for volume in enhanced_volumes(record, tr_s, 1, 0):
            position = first + volume.index
            yield from self._runs.add(record.series, position, replace(volume, arrived_s=arrived_s), now_s)

    def _why_not(self, record: DicomRecord) -> str | None:
        if record.modality != "MR":
            return "expected MR images, got another modality"
        return self._expected.why_not_kind(kind_of(record))

    def _slice(self, record: DicomRecord, arrived_s: float, now_s: float) -> list[Item]:
        series = record.series
        slices = self._slices.get(series)
        if slices is None:
            n_slices = record.images_in_acquisition or (self._expected.shape[2] if self._expected.shape else None)
            if n_slices is None or n_slices > MAX_SIDE:
                return self._runs.ignore(series, "its slices do not say how many make a volume; give the shape")
            # Decided by the first: a mixture would count one volume twice.
            slices = _Slices(n_slices, record.frames[0].temporal_position is not None)
            self._slices[series] = slices
        number = volume_number(record, slices.n_slices, slices.numbered)
        position = number - 1 if slices.numbered else number
        members = {} if number in slices.whole else slices.partial.setdefault(number, {})
        place = slice_place(record)
        if number in slices.whole or place in members:
            if number in slices.doubled:
                return []
            slices.doubled.add(number)
            return [Trouble("slice.doubled", f"volume {position}: slices came twice or too late; dropped", position)]
        members[place] = record
        self._held_bytes += len(record.pixels)
        self._held_slices += 1
        if len(members) < slices.n_slices:
            return self._within_bounds(series)
        slices.whole.add(number)
        self._forget(slices, number)
        return self._runs.add(series, position, self._stacked(list(members.values()), arrived_s), now_s)

    def _stacked(self, members: list[DicomRecord], arrived_s: float) -> Volume:
        acquired = [record.frames[0].acquired_s for record in members]
        acquired_s = min((moment for moment in acquired if moment is not None), default=None)
        tr_s = stated_tr(None, members[0].tr_s or self._expected.tr_s)
        return replace(slices_volume(members, tr_s, 1, 0, acquired_s), arrived_s=arrived_s)

    def _forget(self, slices: _Slices, number: int) -> int:
        members = slices.partial.pop(number)
        self._held_bytes -= sum(len(record.pixels) for record in members.values())
        self._held_slices -= len(members)
        return len(members)

    def _within_bounds(self, series: str) -> list[Item]:
        told: list[Item] = []
        while self._held_bytes > self._max_held_bytes or self._held_slices > MAX_HELD_SLICES:
            told += self._drop(next(iter(self._slices)) if len(self._slices) > 1 else series, oldest_only=True)
        return told

    def _drop(self, series: str, *, oldest_only: bool = False) -> list[Item]:
        slices = self._slices[series]
        told: list[Item] = []
        for number in list(slices.partial)[: 1 if oldest_only else None]:
            n = self._forget(slices, number)
            slices.whole.add(number)
            position = number - 1 if slices.numbered else number
            text = f"volume {position}: {n} of {slices.n_slices} slices came; dropped"
            told.append(Trouble("volume.incomplete", text, position, lost=True))
        if (not slices.partial and not oldest_only) or (oldest_only and not told):
            del self._slices[series]
        return told


def _told(work: Callable[[], Iterable[Item]], what: str = "") -> list[Item]:
    """All that this brings, and what went wrong in it after that."""
    told: list[Item] = []

    def take() -> None:
        for item in work():
            told.append(item)  # noqa: PERF402 - what came before an error is kept

    try:
        guarded(take)
    except MindsightError as error:
        told.append(Trouble(error.code, f"{what}{error}", lost=True))
    return told
