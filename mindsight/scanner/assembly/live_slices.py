"""Slices of one series as they arrive → the volume of each, and the number of slices in a volume.

Knows nothing of transports.

No single field can be trusted: stated slice counts may be multiples, temporal positions all the same, instance numbers
missing. But each volume has a slice at each location once. So slices are held until one arrives at a known location:
then the second volume has begun, and the locations test the numbers. A temporal position that repeats at one location
does not count volumes, and instance numbers at one location differ by the number of slices in a volume.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum, auto

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.object_numbers import since_s
from mindsight.scanner.formats.slice_locations import SliceLocation, SliceLocations

NEAR_STEP = 0.25  # of a step between volumes, by which a moment may miss a whole number of them


@dataclass(frozen=True, slots=True)
class ArrivedSlice:
    """A slice, when it arrived, and its position."""

    record: DicomRecord
    arrived_s: float
    location: SliceLocation


Positioned = tuple[int, ArrivedSlice]


class _By(Enum):
    """What counts the volumes."""

    TEMPORAL = auto()
    INSTANCE = auto()
    ACQUISITION = auto()
    ORDER = auto()  # the first slice at a location is volume 0's, the next volume 1's or, by its clock, a later one's


class LiveSlices:
    """Sorts slices into volumes.

    declared : number of slices in a volume, if it is known beforehand
    n_slices : the number found; None until it is decided
    """

    def __init__(self, declared: int | None = None) -> None:
        self.n_slices: int | None = None
        self._declared = declared
        self._held: list[ArrivedSlice] = []
        self._locations = SliceLocations()
        self._at: dict[SliceLocation, list[DicomRecord]] = defaultdict(list)
        self._locations_of_first: int | None = None  # number of locations when the first repeat arrived
        self._by, self._stride, self._base = _By.ORDER, 1, 1
        self._temporal: dict[SliceLocation, DicomRecord] = {}
        self._step_s: float | None = None  # from one volume to the next, if only the clock states it
        self._latest_at: dict[SliceLocation, tuple[int, DicomRecord]] = {}

    def add(self, record: DicomRecord, arrived_s: float) -> list[Positioned]:
        """Slices with the volume of each, from 0: none until that is decided, then all that were held.

        Raises BadVolume if the slice has no position, or lacks the number that counts the volumes.
        """
        arrived = ArrivedSlice(record, arrived_s, self._locations.follow(record))
        if self.n_slices is not None:
            return [(self._position(arrived), arrived)]
        self._held.append(arrived)
        at = self._at[arrived.location]
        if not any(_is_again(other, record) for other in at):
            if at and self._locations_of_first is None:
                self._locations_of_first = len(self._at)
            at.append(record)
        self._decide()
        return [] if self.n_slices is None else self._released()

    def finish(self) -> list[Positioned]:
        """The held slices, sorted by what is known now: no more will arrive, or no more can be held."""
        if self.n_slices is None and self._held:
            stated = self._held[0].record.images_in_acquisition
            self._take(max(len(self._at), self._declared or stated or 0))
        return self._released()

    def _released(self) -> list[Positioned]:
        held, self._held = self._held, []
        self._at.clear()
        return [(self._position(arrived), arrived) for arrived in held]

    def _decide(self) -> None:
        n, again = len(self._at), self._locations_of_first
        if again is None:
            # Several temporal positions may mean several volumes; without any, the second volume's numbers are needed.
            temporal = {arrived.record.frames[0].temporal_position for arrived in self._held}
            if n == self._declared and len(temporal) == 1 and None not in temporal:
                self._take(n)
            return
        gap, in_volumes = self._gap(), again > 1  # otherwise they arrive through time first
        counts = [len(records) for records in self._at.values()]
        stated = self._held[-1].record.images_in_acquisition
        agreed = n in (self._declared, stated) or (in_volumes and gap == n)
        third = in_volumes and max(counts) > 2 and min(counts) > 1 and gap % n == 0 and gap != stated
        # A gap of several volumes means a lost volume, or other echoes in the same count: the third volume decides.
        if third or (agreed and (gap in (0, 1, n) or self._temporal_tells())):
            self._take(n)

    def _take(self, n_slices: int) -> None:
        self.n_slices = n_slices
        records = [arrived.record for arrived in self._held]
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
        """Whether instance numbers count the volumes: without a gap at a location they restart with each volume."""
        again = any(len(records) > 1 for records in self._at.values())
        return gap % n_slices == 0 and (gap > 0 or not again)

    def _acquisitions_count(self) -> bool:
        """Whether each volume has an acquisition number of its own."""
        numbers = [{record.acquisition_number for record in records} for records in self._at.values()]
        counts = [len(records) for records in self._at.values()]
        return None not in set().union(*numbers) and max(counts) > 1 and [len(one) for one in numbers] == counts

    def _temporal_tells(self) -> bool:
        """Whether the temporal positions of the slices at each location differ."""
        return all(
            len({record.frames[0].temporal_position for record in records}) == len(records)
            for records in self._at.values()
        )

    def _gap(self) -> int:
        """Distance of the instance numbers at each location: the slices of a volume, or 1 through time; otherwise 0."""
        gap = 0
        for records in self._at.values():
            numbers = [record.instance_number for record in records if record.instance_number is not None]
            gap = math.gcd(gap, *(number - numbers[0] for number in numbers[1:]))
        return gap

    def _position(self, arrived: ArrivedSlice) -> int:
        location, record = arrived.location, arrived.record
        temporal, instance = record.frames[0].temporal_position, record.instance_number
        if self._by is _By.TEMPORAL and temporal is not None:
            first = self._temporal.setdefault(location, record)
            if first.frames[0].temporal_position != temporal or first.instance_number == instance or instance is None:
                return temporal - self._base
            self._by, self._base = _By.INSTANCE, 1  # a constant temporal position does not count
        if self._by is _By.INSTANCE and instance is not None:
            return (instance - self._base) // self._stride
        if self._by is _By.ACQUISITION and record.acquisition_number is not None:
            return record.acquisition_number - self._base
        if self._by is not _By.ORDER:
            raise BadVolume(
                "expected a temporal position or an instance number in every slice, got a slice without; "
                "it is ignored, export with these elements",
                code="dicom.no_number",
            )
        return self._in_order(location, record)

    def _in_order(self, location: SliceLocation, record: DicomRecord) -> int:
        """After the last slice at its location, by as many volumes as the clock says."""
        if location not in self._latest_at:
            self._latest_at[location] = 0, record
            return 0
        latest, last = self._latest_at[location]
        if _is_again(last, record):
            return latest
        steps = (_step_s(last, record) or 0.0) / self._step_s if self._step_s else 1.0
        position = latest + round(steps)
        if abs(steps - round(steps)) > NEAR_STEP or position < 0:
            position = latest + 1  # a pause, or a clock that was adjusted: no gap
        if position > latest:
            self._latest_at[location] = position, record
        return position


def _is_again(one: DicomRecord, other: DicomRecord) -> bool:
    """Whether two slices at one location are the same slice, sent twice."""
    return _numbers(one) == _numbers(other) and one.pixels == other.pixels


def _step_s(earlier: DicomRecord, later: DicomRecord) -> float | None:
    return since_s(earlier.frames[0].acquired_s, later.frames[0].acquired_s)


def _numbers(record: DicomRecord) -> tuple[int | None, int | None]:
    return record.frames[0].temporal_position, record.instance_number
