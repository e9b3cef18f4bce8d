"""DICOM objects and volumes in any order, of several series mixed → runs of whole volumes.

Knows nothing of transports. Time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.assembly.arrivals import Arrival, Ended, NumberedVolume
from mindsight.scanner.assembly.candidates import Origin
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.assembly.families import Families, Family, key_of
from mindsight.scanner.assembly.gather import Gather, Gathered
from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.assembly.object_positions import ObjectPositions
from mindsight.scanner.assembly.parrec_pairs import PairOrder
from mindsight.scanner.assembly.runs import Runs
from mindsight.scanner.assembly.slice_gathering import MAX_HELD_BYTES, SliceGathering, Stack
from mindsight.scanner.assembly.untimed import Make, Untimed, by_clock
from mindsight.scanner.echoes import canonical, echoes_in, of_echo
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.formats.dicom_series import record_volume
from mindsight.scanner.formats.enhanced import enhanced_moments, enhanced_positions, enhanced_volumes, is_enhanced
from mindsight.scanner.formats.files import stated_tr
from mindsight.scanner.formats.image_type import kind_of, series_key
from mindsight.scanner.formats.mosaic import directed, is_mosaic, mosaic_note
from mindsight.scanner.formats.object_numbers import began_s, earliest_s
from mindsight.scanner.formats.scaling import SeriesScales
from mindsight.scanner.formats.slices import slices_volume
from mindsight.scanner.guard import guarded
from mindsight.scanner.timing import pace_of
from mindsight.volume import Volume
from mindsight.volume_bounds import is_tr

_COMBINED = "combined "


class Assembler:
    """Arrivals in, volumes in order and warnings out. Unreadable data causes a warning, and nothing else."""

    def __init__(
        self, expected: Expected, late_s: float, run: int = 1, *, max_held_bytes: int = MAX_HELD_BYTES
    ) -> None:
        self._expected = expected
        self._runs = Runs(expected, late_s, run)
        self._pairs = PairOrder()
        self._families = Families()
        self._gather = Gather()
        self._positions = ObjectPositions()
        self._scales = SeriesScales()
        self._untimed = Untimed()
        self._slices = SliceGathering(expected.shape[2] if expected.shape else None, max_held_bytes)
        self._origins: dict[str, Origin] = {}
        self._noted: set[str] = set()  # notes about the assumed slice direction of mosaics
        self._normal: tuple[str, tuple[float, ...]] | None = None  # series and the slice normal that it last stated
        self._combined: dict[Family, tuple[str, Origin]] = {}

    def add(self, arrival: Arrival | TransportWarning, now_s: float) -> Sequence[Item]:
        if isinstance(arrival, TransportWarning):
            return [arrival]
        return _collected(lambda: self._added(arrival, now_s), f"object {arrival.number}: " if arrival.number else "")

    def is_over(self, series: str) -> bool:
        """Whether the objects of this series cannot become part of any volume any more."""
        return self._runs.is_over(series)

    def tick(self, now_s: float) -> Sequence[Item]:
        return _collected(lambda: self._runs.tick(now_s))

    def finish(self) -> Sequence[Item]:
        items = _collected(lambda: self._numbered(self._pairs.finish(), 0.0))
        items += _collected(lambda: self._stacked(self._slices.finish(), 0.0))
        items += _collected(self._untimed.finish)
        items += _collected(self._gathered_last)
        return [*items, *_collected(self._runs.finish)]

    def _added(self, arrival: Arrival, now_s: float) -> Iterable[Item]:
        content = arrival.content
        if isinstance(content, Ended):
            return self._ended(content.series)
        if isinstance(content, NumberedVolume):
            come = replace(content, volume=replace(content.volume, arrived_s=arrival.arrived_s))
            return self._numbered(self._pairs.add(come), now_s)
        record = read_dicom(content) if isinstance(content, bytes) else content
        return self._record(record, arrival.arrived_s, now_s)

    def _numbered(self, decided: Sequence[NumberedVolume], now_s: float) -> Iterator[Item]:
        for numbered in decided:
            why_not = self._expected.why_not_kind(numbered.kind)
            if why_not is not None:  # MURFI's senders mix raw and corrected volumes in one series
                yield from self._runs.ignore(f"{numbered.series} {numbered.kind}", why_not)
            else:
                echo, key = numbered.echo, numbered.series
                origin = Origin(numbered.is_run, states_tr=numbered.states_tr)
                if echo is not None:
                    family = self._families.named(numbered.series)
                    for one in numbered.echoes:
                        canonical(one, family.echoes)
                    echo = canonical(echo, family.echoes)
                    family.see(echo, numbered.position)
                    key, origin = key_of(numbered.series, family, echo), replace(origin, family=family, echo=echo)
                yield from self._volume(key, numbered.position, numbered.volume, now_s, origin)

    def _ended(self, series: str) -> Iterator[Item]:
        yield from self._gathered_last()
        family = self._families.known(series)
        keys = [key_of(series, family, echo) for echo in family.echoes] if family is not None else []
        for key in (series, *keys, _COMBINED + (keys[0] if keys else "")):
            yield from self._runs.end(key)

    def _volume(self, key: str, position: int, volume: Volume, now_s: float, origin: Origin) -> Iterator[Item]:
        """Adds a whole volume of the echo that ``key`` names."""
        family, echo = origin.family, origin.echo
        if self._expected.echo != "combine" or family is None or echo is None:
            yield from self._runs.add(key, position, volume, now_s, origin=origin)
            return
        self._combined.setdefault(family, (_COMBINED + key, replace(origin, family=None, echo=None)))
        yield from self._gathered(self._gather.add(family, echo, position, volume), now_s)

    def _gathered(self, found: Iterable[Gathered], now_s: float) -> Iterator[Item]:
        for one in found:
            if isinstance(one, TransportWarning):
                yield one
            else:
                key, origin = self._combined[one[0]]
                yield from self._runs.add(key, one[1], one[2], now_s, origin=origin)

    def _gathered_last(self) -> Iterator[Item]:
        return self._gathered(self._gather.finish(), 0.0)

    def _record(self, record: DicomRecord, arrived_s: float, now_s: float) -> Iterator[Item]:
        series, why_not = series_key(record), self._why_not(record)
        if why_not is not None:
            # Philips mixes magnitude and phase in one series.
            yield from self._runs.ignore(f"{series} {kind_of(record)}", why_not)
            return
        record = self._directed(series, record)
        note = mosaic_note(record)
        if note is not None and note not in self._noted:
            self._noted.add(note)
            yield TransportWarning("mosaic.direction", note)
        family = self._families.of(series, record)
        frames = echoes_in(record, family.echoes)
        for echo in dict.fromkeys(frames):
            key = key_of(series, family, echo)
            origin = Origin(is_derived=kind_of(record).derived, family=family, echo=echo)
            yield from self._of_echo(of_echo(record, echo, frames), key, origin, arrived_s, now_s)

    def _directed(self, series: str, record: DicomRecord) -> DicomRecord:
        if record.csa_normal is not None:
            self._normal = series, record.csa_normal
        return directed(record, self._normal[1]) if self._normal is not None and self._normal[0] == series else record

    def _of_echo(self, record: DicomRecord, key: str, origin: Origin, arrived_s: float, now_s: float) -> Iterable[Item]:
        is_slice = not (is_mosaic(record) or is_enhanced(record))
        if self._runs.is_left(key):
            if key in self._slices:
                self._slices.drop(key)
            if is_slice:
                return []
        if is_slice:
            # Numbers that run through several echoes show in the locations of one echo's slices, like any other count.
            if key not in self._slices:
                self._origins = {one: of for one, of in self._origins.items() if one in self._slices} | {key: origin}
            return self._stacked(self._slices.add(key, record, arrived_s), now_s)
        return self._whole(record, key, origin, arrived_s, now_s)

    def _whole(self, record: DicomRecord, key: str, origin: Origin, arrived_s: float, now_s: float) -> Iterator[Item]:
        position, note = self._positions.position_of(key, record)
        if note is not None:
            yield TransportWarning("volume.order", note)
        yield from self._scaled(key, [record])
        if origin.family is not None and origin.echo is not None:
            origin.family.see(origin.echo, record.instance_number)
        n_volumes = len(enhanced_positions(record)) if is_enhanced(record) else 1
        if n_volumes > 1:  # a whole run sent at its end, or parts of it: objects of one size follow one another
            yield from self._several(record, key, origin, position * n_volumes, arrived_s, now_s)
            return

        def made(tr_s: float) -> Iterator[Item]:
            volume = record_volume(record, 1, 0, tr_s)
            return self._volume(key, position, replace(volume, arrived_s=arrived_s), now_s, origin)

        yield from self._untimed.made(key, position, began_s(record), self._tr_s(record), made)

    def _scaled(self, key: str, records: Sequence[DicomRecord]) -> Iterator[TransportWarning]:
        note = self._scales.check(key, records)
        if note is not None:
            yield TransportWarning("dicom.scale", note, lost=True)

    def _several(
        self, record: DicomRecord, key: str, origin: Origin, first: int, arrived_s: float, now_s: float
    ) -> Iterator[Item]:
        pace = pace_of({number: moment_s for number, (moment_s, _) in enhanced_moments(record).items()})
        stated_s = self._tr_s(record)
        tr_s = stated_tr(stated_s, pace.tr_s if pace is not None and is_tr(pace.tr_s) else None)
        if stated_s is None:
            yield by_clock(tr_s)
        met: list[BadVolume] = []
        for volume in enhanced_volumes(record, tr_s, 1, 0, met.append):
            yield from self._volume(key, first + volume.index, replace(volume, arrived_s=arrived_s), now_s, origin)
        for error in met:
            yield TransportWarning(error.code, str(error), lost=True)

    def _tr_s(self, record: DicomRecord) -> float | None:
        """The header's repetition time, compared with the volumes' clock when the run begins."""
        return record.tr_s if is_tr(record.tr_s) else self._expected.tr_s

    def _why_not(self, record: DicomRecord) -> str | None:
        if record.modality != "MR":
            return "expected MR images, got another modality"
        return self._expected.why_not_kind(kind_of(record))

    def _stacked(self, found: Iterable[Stack | TransportWarning], now_s: float) -> Iterator[Item]:
        for one in found:
            if isinstance(one, TransportWarning):
                yield one
                continue
            yield from self._scaled(one.series, one.records)
            yield from self._untimed.made(
                one.series, one.position, _moment_s(one), self._tr_s(one.records[0]), self._of_stack(one, now_s)
            )

    def _of_stack(self, one: Stack, now_s: float) -> Make:
        origin = self._origins[one.series]

        def made(tr_s: float) -> Iterator[Item]:
            volume = replace(slices_volume(one.records, tr_s, 1, 0, _moment_s(one)), arrived_s=one.arrived_s)
            return self._volume(one.series, one.position, volume, now_s, origin)

        return made


def _moment_s(stack: Stack) -> float | None:
    """When the first slice of a volume was acquired."""
    return earliest_s(began_s(record) for record in stack.records)


def _collected(work: Callable[[], Iterable[Item]], what: str = "") -> list[Item]:
    """All items that the work yields, and a warning if it fails."""
    items: list[Item] = []

    def take() -> None:
        for item in work():
            items.append(item)  # noqa: PERF402 - what came before an error is kept

    try:
        guarded(take)
    except MindsightError as error:
        items.append(TransportWarning(error.code, f"{what}{error}", lost=error.code != "dicom.not_mr"))
    return items
