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
from mindsight.scanner.echoes import canonical, echoes_in, of_echo
from mindsight.scanner.enhanced import enhanced_positions, enhanced_volumes, is_enhanced
from mindsight.scanner.files import stated_tr
from mindsight.scanner.kinds import kind_of, series_key
from mindsight.scanner.mosaic import is_mosaic
from mindsight.scanner.slices import slice_place, slices_volume, volume_number
from mindsight.scanner.transports.arrivals import Arrival, Ended, Placed
from mindsight.scanner.transports.contract import Expected, Item, Trouble
from mindsight.scanner.transports.families import Families, Family, key_of
from mindsight.scanner.transports.gather import Gather, Gathered
from mindsight.scanner.transports.guard import guarded
from mindsight.scanner.transports.pairs import PairOrder
from mindsight.scanner.transports.runs import Origin, Runs
from mindsight.volume import MAX_SIDE, Volume, is_tr

MAX_HELD_BYTES = 1 << 30
MAX_HELD_SLICES = 200_000
_COMBINED = "combined "


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
        self._families = Families()
        self._gather = Gather()
        self._slices: dict[str, _Slices] = {}
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._held_slices = 0
        self._combined: dict[Family, tuple[str, Origin]] = {}

    def add(self, arrival: Arrival | Trouble, now_s: float) -> Sequence[Item]:
        if isinstance(arrival, Trouble):
            return [arrival]
        return _told(lambda: self._added(arrival, now_s), f"object {arrival.number}: " if arrival.number else "")

    def is_over(self, series: str) -> bool:
        """Nothing that still may come makes anything of the objects of this series."""
        return self._runs.is_over(series)

    def tick(self, now_s: float) -> Sequence[Item]:
        return _told(lambda: self._runs.tick(now_s))

    def finish(self) -> Sequence[Item]:
        told = _told(lambda: self._placed(self._pairs.finish(), 0.0))
        for series in list(self._slices):
            told += _told(partial(self._drop, series))
        told += _told(self._gathered_last)
        return [*told, *_told(self._runs.finish)]

    def _added(self, arrival: Arrival, now_s: float) -> Iterable[Item]:
        content = arrival.content
        if isinstance(content, Ended):
            return self._ended(content.series)
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
                echo, key, origin = placed.echo, placed.series, Origin(placed.is_run)
                if echo is not None:
                    family = self._families.named(placed.series)
                    echo = canonical(echo, family.echoes)
                    family.see(echo, placed.position, None)
                    key, origin = key_of(placed.series, family, echo), replace(origin, family=family, echo=echo)
                yield from self._volume(key, placed.position, placed.volume, now_s, origin)

    def _ended(self, series: str) -> Iterator[Item]:
        yield from self._gathered_last()
        family = self._families.known(series)
        keys = [key_of(series, family, echo) for echo in family.echoes] if family is not None else []
        for key in (series, *keys, _COMBINED + (keys[0] if keys else "")):
            yield from self._runs.end(key)

    def _volume(self, key: str, position: int, volume: Volume, now_s: float, origin: Origin) -> Iterator[Item]:
        """One that is whole, of the echo that ``key`` names."""
        family, echo = origin.family, origin.echo
        if self._expected.echo != "combine" or family is None or echo is None:
            yield from self._runs.add(key, position, volume, now_s, origin=origin)
            return
        self._combined.setdefault(family, (_COMBINED + key, replace(origin, family=None, echo=None)))
        yield from self._gathered(self._gather.add(family, echo, position, volume), now_s)

    def _gathered(self, found: Iterable[Gathered], now_s: float) -> Iterator[Item]:
        for one in found:
            if isinstance(one, Trouble):
                yield one
            else:
                key, origin = self._combined[one[0]]
                yield from self._runs.add(key, one[1], one[2], now_s, origin=origin)

    def _gathered_last(self) -> Iterator[Item]:
        return self._gathered(self._gather.finish(), 0.0)

    def _record(self, record: DicomRecord, arrived_s: float, now_s: float) -> Iterator[Item]:
        series, why_not = series_key(record), self._why_not(record)
        if why_not is not None:
            # Philips puts magnitude and phase into one series.
            yield from self._runs.ignore(f"{series} {kind_of(record)}", why_not)
            return
        family = self._families.of(series, record)
        frames = echoes_in(record, family.echoes)
        for echo in dict.fromkeys(frames):
            key = key_of(series, family, echo)
            origin = Origin(is_derived=kind_of(record).derived, family=family, echo=echo)
            yield from self._of_echo(of_echo(record, echo, frames), key, origin, arrived_s, now_s)

    def _of_echo(self, record: DicomRecord, key: str, origin: Origin, arrived_s: float, now_s: float) -> Iterable[Item]:
        is_slice = not (is_mosaic(record) or is_enhanced(record))
        if self._runs.is_over(key):
            if key in self._slices:
                self._drop(key)
            if is_slice:
                return []
        if is_slice:
            return self._slice(record, key, origin, arrived_s, now_s)
        number = record.acquisition_number if record.instance_number is None else record.instance_number
        if number is None:
            raise BadVolume("expected an instance or acquisition number, got none", code="dicom.no_number")
        if origin.family is not None and origin.echo is not None:
            origin.family.see(origin.echo, record.instance_number, None)
        n_volumes = len(enhanced_positions(record)) if is_enhanced(record) else 1
        if n_volumes == 1:
            volume = record_volume(record, 1, 0, self._tr_s(record))
            return self._volume(key, number - 1, replace(volume, arrived_s=arrived_s), now_s, origin)
        # Several volumes in one object: a whole run, sent when it is over. Objects of one size follow one another.
        return self._several(record, key, origin, (number - 1) * n_volumes, arrived_s, now_s)

    def _several(
        self, record: DicomRecord, key: str, origin: Origin, first: int, arrived_s: float, now_s: float
    ) -> Iterator[Item]:
        tr_s = stated_tr(None, self._tr_s(record))
        for volume in enhanced_volumes(record, tr_s, 1, 0):
            yield from self._volume(key, first + volume.index, replace(volume, arrived_s=arrived_s), now_s, origin)

    def _tr_s(self, record: DicomRecord) -> float | None:
        """As the header states it, to be held against the volumes' clock when the run begins."""
        return record.tr_s if is_tr(record.tr_s) else self._expected.tr_s

    def _why_not(self, record: DicomRecord) -> str | None:
        if record.modality != "MR":
            return "expected MR images, got another modality"
        return self._expected.why_not_kind(kind_of(record))

    def _slice(
        self, record: DicomRecord, series: str, origin: Origin, arrived_s: float, now_s: float
    ) -> Iterable[Item]:
        slices = self._slices.get(series)
        if slices is None:
            n_slices = record.images_in_acquisition or (self._expected.shape[2] if self._expected.shape else None)
            if n_slices is None or n_slices > MAX_SIDE:
                return self._runs.ignore(series, "its slices do not say how many make a volume; give the shape")
            # Decided by the first: a mixture would count one volume twice.
            slices = _Slices(n_slices, record.frames[0].temporal_position is not None)
            self._slices[series] = slices
        record = _counted_alone(record, slices, origin)
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
        return self._volume(series, position, self._stacked(list(members.values()), arrived_s), now_s, origin)

    def _stacked(self, members: list[DicomRecord], arrived_s: float) -> Volume:
        acquired = [record.frames[0].acquired_s for record in members]
        acquired_s = min((moment for moment in acquired if moment is not None), default=None)
        tr_s = stated_tr(None, self._tr_s(members[0]))
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


def _counted_alone(record: DicomRecord, slices: _Slices, origin: Origin) -> DicomRecord:
    """The slice with the number that it would have without the other echoes of its volume."""
    family, echo, number = origin.family, origin.echo, record.instance_number
    if slices.numbered or family is None or echo is None or number is None:
        return record
    family.see(echo, number, slices.n_slices)
    stride = family.strides()[0]
    if stride == 1:
        return record
    return replace(record, instance_number=(number - 1) // stride + 1, images_in_acquisition=None)


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
