"""Which volume of its series an object is that holds a whole one. Knows nothing of files.

Instance numbers count the volumes; where an export has taken them out or made them one, acquisition numbers do, else
the objects' own clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def object_numbers(records: Mapping[K, DicomRecord]) -> dict[K, int]:
    """Each object's number. Two have one number where an object is there twice, which the caller tells.

    Raises BadVolume where neither number nor clock is in all of them and tells them apart.
    """
    instances = {key: record.instance_number for key, record in records.items()}
    acquisitions = {key: record.acquisition_number for key, record in records.items()}
    moments = {key: _began_s(record) for key, record in records.items()}
    known = [_known(numbers) for numbers in (instances, acquisitions)]
    for numbers in known:
        if len(set(numbers.values())) == len(records):
            return numbers
    clock = _known(moments)
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


def _began_s(record: DicomRecord) -> float | None:
    return min((frame.acquired_s for frame in record.frames if frame.acquired_s is not None), default=None)
