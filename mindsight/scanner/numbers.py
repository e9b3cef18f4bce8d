"""Which volume of its series an object is that holds a whole one. Knows nothing of files.

Instance numbers count the volumes; where an export has taken them out or made them one, acquisition numbers do, else
the objects' own clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.timing import DAY_S

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def object_numbers(records: Mapping[K, DicomRecord]) -> dict[K, int]:
    """Each object's number. Two have one number where an object is there twice, which the caller tells.

    Raises BadVolume where neither number nor clock is in all of them and tells them apart.
    """
    instances = {key: record.instance_number for key, record in records.items()}
    acquisitions = {key: record.acquisition_number for key, record in records.items()}
    moments = {key: began_s(record) for key, record in records.items()}
    known = [_known(numbers) for numbers in (instances, acquisitions)]
    for numbers in known:
        if len(set(numbers.values())) == len(records):
            return numbers
    clock = over_midnight(_known(moments))
    if len(set(clock.values())) == len(records):
        return {key: number for number, key in enumerate(sorted(clock, key=clock.__getitem__), 1)}
    for numbers in known:
        if len(numbers) == len(records) and 2 * len(set(numbers.values())) > len(records):
            return numbers
    if len(records) == 1:
        return dict.fromkeys(records, 1)
    raise BadVolume(
        "expected objects that an instance number, an acquisition number or their time tells apart, got none that "
        "is in all of them and differs; export with these elements",
        code="dicom.no_number",
    )


def _known(values: Mapping[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in values.items() if value is not None}


def began_s(record: DicomRecord) -> float | None:
    """When the object's first frame was acquired."""
    return min((frame.acquired_s for frame in record.frames if frame.acquired_s is not None), default=None)


def since_s(earlier_s: float | None, later_s: float | None) -> float | None:
    """From one moment to the other, over midnight where the date was taken out; None where one is not known."""
    if earlier_s is None or later_s is None:
        return None
    advance_s = later_s - earlier_s
    return advance_s + DAY_S if earlier_s < DAY_S and advance_s < -DAY_S / 2 else advance_s


def over_midnight(moments_s: Mapping[K, float]) -> dict[K, float]:
    """Moments of one run as they followed each other: times of day, where the date was taken out, go on past midnight.

    What lies more than half a day before the last is of the day after.
    """
    last_s = max(moments_s.values(), default=0.0)
    if last_s >= DAY_S:  # with their date
        return dict(moments_s)
    return {key: s + DAY_S if s < last_s - DAY_S / 2 else s for key, s in moments_s.items()}
