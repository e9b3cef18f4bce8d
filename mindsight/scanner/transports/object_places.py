"""Objects that hold whole volumes, as they come → their places in their series. Knows nothing of runs or transports.

Instance numbers count them. Exports take the numbers out, or give all objects of a series the same; then acquisition
numbers or temporal positions count where they differ, else the objects' clock, in steps as long as the first, else the
order in which they come. Numbers of several objects that begin anew are for ``runs.py`` to judge: they are another run.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.numbers import began_s, since_s, temporal_position

MAX_SERIES = 64
MAX_PLACES = 10_000
NEAR_STEP = 0.25  # of a step, by which a moment may miss a whole number of steps

BY_CLOCK = "volumes that no number tells apart are taken in the order of their clock"
AS_THEY_COME = "volumes that neither a number nor a clock tells apart are taken as they come"


@dataclass(slots=True)
class _Series:
    """marks : of what is at each place. counts : instance numbers do. step_s : from one object to the next."""

    marks: dict[int, int] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)  # by mark
    counts: bool = True
    offsets: dict[int, int | None] = field(default_factory=dict)  # of other numbers, from the place; None: no count
    last: int = -1
    last_s: float | None = None
    step_s: float | None = None
    noted: bool = False


class ObjectPlaces:
    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def place(self, key: str, record: DicomRecord) -> tuple[int, str | None]:
        """Of an object in the series of this key, the first being 0; and, once, a sentence for a person."""
        series = self._series.setdefault(key, _Series())
        if len(self._series) > MAX_SERIES:
            del self._series[next(iter(self._series))]
        mark = _mark(record.pixels)
        place = _by_instance(series, record, mark)
        note = None
        if place is None:
            place = series.places.get(mark)  # it came twice
        if place is None:
            place = _by_others(series, record)
        if place is None:
            place, note = _by_order(series, record)
        _remember(series, place, mark, record)
        if note is None or series.noted:
            return place, None
        series.noted = True
        return place, note


def _by_instance(series: _Series, record: DicomRecord, mark: int) -> int | None:
    """None where the number does not count: the only one that has been there comes with other voxels."""
    number = record.instance_number
    if number is None or not series.counts:
        return None
    known = series.marks.get(number - 1, mark)
    if known != mark and (len(series.marks) == 1 or _by_others(series, record) is not None):
        series.counts = False
        return None
    return number - 1


def _by_others(series: _Series, record: DicomRecord) -> int | None:
    for kind, number in enumerate(_others(record)):
        offset = series.offsets.get(kind, 1)
        if number is not None and offset is not None and number - offset not in series.marks:
            return number - offset
    return None


def _others(record: DicomRecord) -> tuple[int | None, int | None]:
    return record.acquisition_number, temporal_position(record)


def _by_order(series: _Series, record: DicomRecord) -> tuple[int, str | None]:
    following = max(series.marks, default=-1) + 1
    if not series.marks:
        return following, None
    advance_s = since_s(series.last_s, began_s(record))
    if not advance_s:
        return following, AS_THEY_COME
    if series.step_s is None:
        return following if advance_s > 0.0 else min(series.marks) - 1, BY_CLOCK
    steps = advance_s / series.step_s
    place = series.last + round(steps)
    if abs(steps - round(steps)) > NEAR_STEP or place < 0 or place in series.marks:
        place = following  # a pause, or a clock that was set: no gap
    return place, BY_CLOCK


def _remember(series: _Series, place: int, mark: int, record: DicomRecord) -> None:
    moment_s = began_s(record)
    for kind, number in enumerate(_others(record)):
        offset = None if number is None else number - place
        series.offsets[kind] = offset if series.offsets.get(kind, offset) == offset else None
    advance_s = since_s(series.last_s, moment_s)
    if series.step_s is None and advance_s and place != series.last:
        series.step_s = abs(advance_s / (place - series.last))
    if moment_s is not None:
        series.last, series.last_s = place, moment_s
    series.marks.setdefault(place, mark)
    series.places.setdefault(mark, place)
    for known in (series.marks, series.places):
        if len(known) > MAX_PLACES:
            del known[next(iter(known))]


def _mark(pixels: bytes) -> int:
    """By some of the voxels: no other volume has their noise."""
    words = np.frombuffer(pixels, np.uint64, len(pixels) // 8)
    return zlib.crc32(np.ascontiguousarray(words[:: 16 if words.size > 1024 else 1]).data)
