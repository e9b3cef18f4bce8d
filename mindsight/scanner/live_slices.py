"""Slices of one series as they come → which volume each belongs to, and how many make one. Knows nothing of transports.

No single field tells it: counts of slices are multiples of them, temporal positions are all the same, instance numbers
are missing. But a slice is in a volume once. So slices are held until one of them comes to a place that was there
before; then the second volume has begun, and the files' numbers are judged by the places: a temporal position that
repeats at one place counts nothing, and instance numbers at one place are apart by the slices of a volume.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum, auto

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.numbers import since_s
from mindsight.scanner.slice_places import Place, SlicePlaces

NEAR_STEP = 0.25  # of a step between volumes, by which a moment may miss a whole number of them


@dataclass(frozen=True, slots=True)
class Come:
    """A slice, and when it came."""

    record: DicomRecord
    arrived_s: float
    place: Place


Positioned = tuple[int, Come]


class _By(Enum):
    """What counts the volumes."""

    TEMPORAL = auto()
    INSTANCE = auto()
    ACQUISITION = auto()
    ORDER = auto()  # the first slice that came to a place is of volume 0, the next of volume 1, or by its clock later


class LiveSlices:
    """``n_slices`` is None until it is decided. declared : slices of a volume, where they are known beforehand."""

    def __init__(self, declared: int | None = None) -> None:
        self.n_slices: int | None = None
        self._declared = declared
        self._held: list[Come] = []
        self._places = SlicePlaces()
        self._at: dict[Place, list[DicomRecord]] = defaultdict(list)
        self._places_of_first: int | None = None  # that had been there when the first slice came to one of them again
        self._by, self._stride, self._base = _By.ORDER, 1, 1
        self._temporal: dict[Place, DicomRecord] = {}
        self._step_s: float | None = None  # from one volume to the next, where the clock alone tells
        self._came: dict[Place, tuple[int, DicomRecord]] = {}  # the last

    def add(self, record: DicomRecord, arrived_s: float) -> list[Positioned]:
        """Slices with the volumes they belong to, from 0: none while it is not decided, then all that were held.

        Raises BadVolume where the slice has no position, or the number that counts the volumes is lacking.
        """
        come = Come(record, arrived_s, self._places.place(record))
        if self.n_slices is not None:
            return [(self._position(come), come)]
        self._held.append(come)
        at = self._at[come.place]
        if not any(_is_again(other, record) for other in at):
            if at and self._places_of_first is None:
                self._places_of_first = len(self._at)
            at.append(record)
        self._decide()
        return [] if self.n_slices is None else self._released()

    def finish(self) -> list[Positioned]:
        """The slices that are held, by what is known of them now: no more will come, or no more can be held."""
        if self.n_slices is None and self._held:
            stated = self._held[0].record.images_in_acquisition
            self._take(max(len(self._at), self._declared or stated or 0))
        return self._released()

    def _released(self) -> list[Positioned]:
        held, self._held = self._held, []
        self._at.clear()
        return [(self._position(come), come) for come in held]

    def _decide(self) -> None:
        n, again = len(self._at), self._places_of_first
        if again is None:
            # Slices of several temporal positions may be of several volumes; without one the second volume's numbers
            # tell how the volumes are counted.
            temporal = {come.record.frames[0].temporal_position for come in self._held}
            if n == self._declared and len(temporal) == 1 and None not in temporal:
                self._take(n)
            return
        gap, in_volumes = self._gap(), again > 1  # else they come through time first
        counts = [len(records) for records in self._at.values()]
        stated = self._held[-1].record.images_in_acquisition
        agreed = n in (self._declared, stated) or (in_volumes and gap == n)
        third = in_volumes and max(counts) > 2 and min(counts) > 1 and gap % n == 0 and gap != stated
        # A gap of several volumes is that of a lost one, or of other echoes counted along: the third volume tells.
        if third or (agreed and (gap in (0, 1, n) or self._temporal_tells())):
            self._take(n)

    def _take(self, n_slices: int) -> None:
        self.n_slices = n_slices
        records = [come.record for come in self._held]
        temporal = [record.frames[0].temporal_position for record in records]
        instances = [record.instance_number for record in records]
        gap = self._gap()
        if None not in temporal and self._temporal_tells():
            self._by, self._base = _By.TEMPORAL, min(1, *(number for number in temporal if number is not None))
        elif None not in instances and len(set(instances)) > 1 and self._gap_counts(gap, n_slices):
            self._by, self._base = _By.INSTANCE, min(1, *(number for number in instances if number is not None))
        elif self._acquisitions_count():
            self._by, self._base = _By.ACQUISITION, min(record.acquisition_number or 0 for record in records)
        self._stride = gap if gap and gap % n_slices == 0 else n_slices
        steps = (_step_s(*records[:2]) for records in self._at.values() if len(records) > 1)
        self._step_s = next((step_s for step_s in steps if step_s), None)

    def _gap_counts(self, gap: int, n_slices: int) -> bool:
        """Whether instance numbers do: they begin anew with each volume where no gap is between them at a place."""
        again = any(len(records) > 1 for records in self._at.values())
        return gap % n_slices == 0 and (gap > 0 or not again)

    def _acquisitions_count(self) -> bool:
        """Whether each volume has an acquisition number of its own."""
        numbers = [{record.acquisition_number for record in records} for records in self._at.values()]
        at_places = [len(records) for records in self._at.values()]
        return None not in set().union(*numbers) and max(at_places) > 1 and [len(one) for one in numbers] == at_places

    def _temporal_tells(self) -> bool:
        """Whether no two slices at one place have one temporal position."""
        return all(
            len({record.frames[0].temporal_position for record in records}) == len(records)
            for records in self._at.values()
        )

    def _gap(self) -> int:
        """By what the instance numbers at each place are apart: the slices of a volume, or 1 through time; else 0."""
        gap = 0
        for records in self._at.values():
            numbers = [record.instance_number for record in records if record.instance_number is not None]
            gap = math.gcd(gap, *(number - numbers[0] for number in numbers[1:]))
        return gap

    def _position(self, come: Come) -> int:
        place, record = come.place, come.record
        temporal, instance = record.frames[0].temporal_position, record.instance_number
        if self._by is _By.TEMPORAL and temporal is not None:
            first = self._temporal.setdefault(place, record)
            if first.frames[0].temporal_position != temporal or first.instance_number == instance or instance is None:
                return temporal - self._base
            self._by, self._base = _By.INSTANCE, 1  # one temporal position for all: it counts nothing
        if self._by is _By.INSTANCE and instance is not None:
            return (instance - self._base) // self._stride
        if self._by is _By.ACQUISITION and record.acquisition_number is not None:
            return record.acquisition_number - self._base
        if self._by is not _By.ORDER:
            raise BadVolume(
                "expected a temporal position or an instance number in every slice, got one without; it is left",
                code="dicom.no_number",
            )
        return self._in_order(place, record)

    def _in_order(self, place: Place, record: DicomRecord) -> int:
        """After the last that came to its place, by as many volumes as its clock says."""
        if place not in self._came:
            self._came[place] = 0, record
            return 0
        latest, last = self._came[place]
        if _is_again(last, record):
            return latest
        steps = (_step_s(last, record) or 0.0) / self._step_s if self._step_s else 1.0
        position = latest + round(steps)
        if abs(steps - round(steps)) > NEAR_STEP or position < 0:
            position = latest + 1  # a pause, or a clock that was set: no gap
        if position > latest:
            self._came[place] = position, record
        return position


def _is_again(one: DicomRecord, other: DicomRecord) -> bool:
    """Whether two slices at one place are the same, come twice."""
    return _numbers(one) == _numbers(other) and one.pixels == other.pixels


def _step_s(earlier: DicomRecord, later: DicomRecord) -> float | None:
    return since_s(earlier.frames[0].acquired_s, later.frames[0].acquired_s)


def _numbers(record: DicomRecord) -> tuple[int | None, int | None]:
    return record.frames[0].temporal_position, record.instance_number
