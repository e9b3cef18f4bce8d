"""The timing of a series of DICOM objects from all of their headers, by the rule of ``timing.py``.

Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.enhanced import enhanced_moments, enhanced_positions
from mindsight.scanner.formats.mosaic import is_mosaic, mosaic_times_s
from mindsight.scanner.formats.object_numbers import earliest_s
from mindsight.scanner.formats.slices import stacked_times_s
from mindsight.scanner.timing import AgreedTimes, Pace, agreed_times, agreed_tr, jumps_of, jumps_text, pace_of, usual_tr
from mindsight.volume import Volume

Moment = tuple[float | None, NDArray[np.float64] | None]
"""When a volume began, and its slice times as stated."""

NO_SLICE_TIMES = "slice times are unknown: the files do not state them"


@dataclass(frozen=True, slots=True)
class SeriesTiming:
    """Timing of the volumes of a series.

    has_clock : the volumes state their own times; GE states the start of the series in each
    notes : for the operator: contradictions, and which value was taken
    """

    tr_s: float
    times: AgreedTimes
    has_clock: bool
    notes: tuple[str, ...]

    def applied(self, volume: Volume) -> Volume:
        began_s = volume.acquired_s if self.has_clock else None
        return replace(volume, acquired_s=began_s, slice_times_s=self.times.of(volume.slice_times_s))


def moments_of(record: DicomRecord) -> dict[int, Moment]:
    """The moment of each volume in the object, by its number in time."""
    if is_mosaic(record):
        return {0: (record.frames[0].acquired_s, mosaic_times_s(record))}
    return enhanced_moments(record)


def objects_timing(
    records: Collection[DicomRecord], moments: Mapping[int, Moment], declared_s: float | None
) -> SeriesTiming:
    """Timing of mosaics or enhanced objects. moments : by the volumes' index. Raises BadVolume, see ``agreed_tr``."""
    first = next(iter(records))
    n_slices = first.csa_slices or 0 if is_mosaic(first) else len(next(iter(enhanced_positions(first).values())))
    clock = {index: began_s for index, (began_s, _) in moments.items()}
    pace = pace_of(clock)
    agreed = agreed_tr({"in the headers": usual_tr([record.tr_s for record in records])}, pace, declared_s)
    times = agreed_times([times_Z for _, times_Z in moments.values()], n_slices, agreed.tr_s)
    has_clock = len(moments) < 2 or pace is not None
    return SeriesTiming(
        agreed.tr_s, times, has_clock, (*agreed.notes, *_jumps(pace, clock, agreed.tr_s), *_notes(times))
    )


def slices_timing(volumes: Mapping[int, Sequence[DicomRecord]], declared_s: float | None) -> SeriesTiming:
    """Timing of volumes with one object per slice, by index. Raises BadVolume, see ``agreed_tr``."""
    clock = {index: began_s(records) for index, records in volumes.items()}
    pace = pace_of(clock)
    stated_s = usual_tr([record.tr_s for records in volumes.values() for record in records])
    agreed = agreed_tr({"in the headers": stated_s}, pace, declared_s)
    stated = [stacked_times_s(records, agreed.tr_s) for records in volumes.values()]
    times = agreed_times(stated, len(next(iter(volumes.values()))), agreed.tr_s)
    has_clock = len(volumes) < 2 or pace is not None
    notes = (*agreed.notes, *_jumps(pace, clock, agreed.tr_s), *_notes(times))
    return SeriesTiming(agreed.tr_s, times, has_clock, notes)


def _jumps(pace: Pace | None, clock_s: Mapping[int, float | None], tr_s: float) -> tuple[str, ...]:
    """A note about jumps of a steady clock; an unsteady one has a note of its own."""
    found = jumps_of(clock_s, tr_s) if pace is not None and pace.steady else {}
    return (jumps_text(found),) if found else ()


def _notes(times: AgreedTimes) -> tuple[str, ...]:
    return times.notes if times.times_Z is not None or times.notes else (NO_SLICE_TIMES,)


def began_s(records: Sequence[DicomRecord]) -> float | None:
    """When the first slice of a volume was acquired."""
    return earliest_s(record.frames[0].acquired_s for record in records)
