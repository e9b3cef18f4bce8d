"""The number, in its series, of an object that holds a whole volume. Knows nothing of files.

Instance numbers count the volumes. If an export has removed them or made them all the same, acquisition numbers,
temporal positions or the objects' own clock count instead. The numbers are compared with that clock: numbers that run
against it give no order, and numbers that go up by more than one per volume give no gaps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.timing import DAY_S, usual_tr

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

NEAR_SHARE = 0.1  # of a step, by which a clock may differ from the repetition time, and steps from each other


def object_numbers(records: Mapping[K, DicomRecord]) -> tuple[dict[K, int], tuple[str, ...]]:
    """Each object's number, and notes. An object that is there twice has the same number twice; the caller reports it.

    Raises BadVolume if neither a number nor a clock is stated in all of them and distinguishes them.
    """
    instances = {key: record.instance_number for key, record in records.items()}
    acquisitions = {key: record.acquisition_number for key, record in records.items()}
    clock = over_midnight(_known({key: began_s(record) for key, record in records.items()}))
    temporal = {key: temporal_position(record) for key, record in records.items()}
    known = [_known(numbers) for numbers in (instances, acquisitions, temporal)]
    for numbers in known:
        if len(set(numbers.values())) == len(records):
            return _by_clock(records, numbers, clock)
    if len(set(clock.values())) == len(records):
        refuse_several_runs(sorted((clock[key], number) for key, number in known[0].items()))
        return {key: number for number, key in enumerate(sorted(clock, key=clock.__getitem__), 1)}, ()
    for numbers in known:
        if len(numbers) == len(records) and 2 * len(set(numbers.values())) > len(records):
            return numbers, ()
    if len(records) == 1:
        return dict.fromkeys(records, 1), ()
    raise BadVolume(
        "expected objects with different instance numbers, acquisition numbers or times, got none of these that all "
        "objects state; export with these elements",
        code="dicom.no_number",
    )


def _by_clock(
    records: Mapping[K, DicomRecord], numbers: dict[K, int], clock: Mapping[K, float]
) -> tuple[dict[K, int], tuple[str, ...]]:
    """The numbers, corrected if a steady clock with one repetition time per volume contradicts them."""
    tr_s = usual_tr([record.tr_s for record in records.values()])
    by_number = sorted(numbers, key=numbers.__getitem__)
    if len(records) < 3 or tr_s is None or len(set(clock.values())) < len(records):
        return numbers, ()
    in_time = sorted(clock, key=clock.__getitem__)
    steps = np.diff([clock[key] for key in in_time])
    if np.abs(steps - tr_s).max() > NEAR_SHARE * tr_s:
        return numbers, ()
    if in_time != by_number:
        note = "the files' numbers run against their clock, which has one repetition time per volume: ordered by clock"
        return {key: number for number, key in enumerate(in_time, 1)}, (note,)
    stride = common_step(numbers.values())
    if stride == 1:
        return numbers, ()
    first = min(numbers.values())
    note = (
        f"the files' numbers go up by {stride} per volume, but their clock by one repetition time: no volume is missing"
    )
    return {key: first + (number - first) // stride for key, number in numbers.items()}, (note,)


def common_step(numbers: Iterable[int]) -> int:
    """Greatest common divisor of the differences of these numbers."""
    found = list(numbers)
    return math.gcd(*(number - found[0] for number in found)) or 1


def refuse_several_runs(counted: Sequence[tuple[float, int]]) -> None:
    """Raises BadVolume if the numbers restart in the course of time: the files belong to more than one run.

    counted : time and number of each object, or of each at one location. A number that is the same in all, or absent
        from some, does not count
    """
    numbers = [number for _, number in counted]
    if len(set(numbers)) == len(numbers):
        return
    restarts = [k for k in range(1, len(numbers)) if numbers[k] <= numbers[k - 1]]
    lengths = [end - start for start, end in itertools.pairwise([0, *restarts, len(numbers)])]
    if restarts and min(lengths) > 1:
        raise BadVolume(
            f"expected one run in the series, got {len(lengths)}: after {lengths[0]} volumes the instance numbers "
            "restart; put each run into a separate folder",
            code="series.several",
        )


def _known(values: Mapping[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in values.items() if value is not None}


def began_s(record: DicomRecord) -> float | None:
    """When the object's first frame was acquired."""
    return min((frame.acquired_s for frame in record.frames if frame.acquired_s is not None), default=None)


def temporal_position(record: DicomRecord) -> int | None:
    """Temporal position of an object that holds one volume; None if its frames have several."""
    found = {frame.temporal_position for frame in record.frames}
    return found.pop() if len(found) == 1 else None


def earliest_s(moments_s: Iterable[float | None]) -> float | None:
    """The earliest time within one volume, which may span midnight; None if none is known."""
    known = [moment_s for moment_s in moments_s if moment_s is not None]
    last_s = max(known, default=0.0)
    evening = [moment_s for moment_s in known if moment_s > last_s - DAY_S / 2]
    return min(evening, default=None)


def since_s(earlier_s: float | None, later_s: float | None) -> float | None:
    """Seconds from one time to the other, across midnight if the date was removed; None if one is unknown."""
    if earlier_s is None or later_s is None:
        return None
    advance_s = later_s - earlier_s
    return advance_s + DAY_S if earlier_s < DAY_S and advance_s < -DAY_S / 2 else advance_s


def over_midnight(moments_s: Mapping[K, float]) -> dict[K, float]:
    """Times of one run in sequence: if the date was removed, times of day continue past midnight.

    A time more than half a day before the latest belongs to the next day.
    """
    last_s = max(moments_s.values(), default=0.0)
    if last_s >= DAY_S:  # with their date
        return dict(moments_s)
    return {key: s + DAY_S if s < last_s - DAY_S / 2 else s for key, s in moments_s.items()}
