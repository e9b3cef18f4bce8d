"""Objects that hold whole volumes, as they arrive → their positions in the series. Knows nothing of runs or transports.

Instance numbers count the volumes. Some exports remove the numbers, or give all objects the same one. Then acquisition
numbers or temporal positions count if they differ; otherwise the objects' clock, in steps as long as the first;
otherwise the order of arrival. Numbers that restart belong to another run, which ``runs.py`` decides.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.object_numbers import began_s, since_s, temporal_position

MAX_SERIES = 64
MAX_POSITIONS = 10_000
NEAR_STEP = 0.25  # of a step, by which a moment may miss a whole number of steps

BY_CLOCK = "volumes have no distinct numbers: ordered by their clock; export with instance numbers"
AS_THEY_COME = "volumes have neither distinct numbers nor a clock: ordered as they arrive; export with instance numbers"


@dataclass(slots=True)
class _Series:
    """What is known of one series.

    marks : checksum of the voxels at each position
    counts : whether instance numbers count the volumes
    step_s : from one object to the next
    """

    marks: dict[int, int] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)  # by mark
    counts: bool = True
    offsets: dict[int, int | None] = field(
        default_factory=dict
    )  # other numbers minus the position; None: they do not count
    last: int = -1
    last_s: float | None = None
    step_s: float | None = None
    noted: bool = False


class ObjectPositions:
    """The positions of the objects of each series."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def position_of(self, key: str, record: DicomRecord) -> tuple[int, str | None]:
        """Position of an object in the series of this key, from 0; and, once, a note for the operator."""
        series = self._series.setdefault(key, _Series())
        if len(self._series) > MAX_SERIES:
            del self._series[next(iter(self._series))]
        mark = _mark(record.pixels)
        position = _by_instance(series, record, mark)
        note = None
        if position is None:
            position = series.positions.get(mark)  # a repeat
        if position is None:
            position = _by_others(series, record)
        if position is None:
            position, note = _by_order(series, record)
        _remember(series, position, mark, record)
        if note is None or series.noted:
            return position, None
        series.noted = True
        return position, note


def _by_instance(series: _Series, record: DicomRecord, mark: int) -> int | None:
    """Position by instance number; None if the number does not count: it repeats with other voxels."""
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
    position = series.last + round(steps)
    if abs(steps - round(steps)) > NEAR_STEP or position < 0 or position in series.marks:
        position = following  # a pause, or a clock that was set: no gap
    return position, BY_CLOCK


def _remember(series: _Series, position: int, mark: int, record: DicomRecord) -> None:
    moment_s = began_s(record)
    for kind, number in enumerate(_others(record)):
        offset = None if number is None else number - position
        series.offsets[kind] = offset if series.offsets.get(kind, offset) == offset else None
    advance_s = since_s(series.last_s, moment_s)
    if series.step_s is None and advance_s and position != series.last:
        series.step_s = abs(advance_s / (position - series.last))
    if moment_s is not None:
        series.last, series.last_s = position, moment_s
    series.marks.setdefault(position, mark)
    series.positions.setdefault(mark, position)
    for known in (series.marks, series.positions):
        if len(known) > MAX_POSITIONS:
            del known[next(iter(known))]


def _mark(pixels: bytes) -> int:
    """Checksum of some of the voxels: no other volume has the same noise."""
    words = np.frombuffer(pixels, np.uint64, len(pixels) // 8)
    return zlib.crc32(np.ascontiguousarray(words[:: 16 if words.size > 1024 else 1]).data)
