"""One slice per DICOM object (GE, Philips): slices are sorted into volumes, and volumes assembled from slices.

Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.geometry import affine_ras, plane_axes, rescaled, slice_order, stack
from mindsight.volume import Volume

K = TypeVar("K", bound=Hashable)


def group_slices(slices: Sequence[tuple[K, DicomRecord]], on_bad: Callable[[BadVolume], None]) -> dict[int, list[K]]:
    """Which objects make up volume 0, 1, ...: their keys, volume by volume.

    on_bad : is told of volumes that lack slices or have one twice, and of gaps between volumes

    Philips numbers the volumes (TemporalPositionIdentifier) and lets the instance number run through time first; GE
    does not number them, and lets it run through the slices first.

    Raises BadVolume where no volume is whole, and what ``on_bad`` raises.
    """
    records = [record for _, record in slices]
    counts = Counter(slice_place(record) for record in records)
    n_slices = sum(4 * count > max(counts.values()) for count in counts.values())  # one slice gone astray is no place
    numbered = all(record.frames[0].temporal_position is not None for record in records)
    volumes: dict[int, list[tuple[K, DicomRecord]]] = defaultdict(list)
    for key, record in slices:
        volumes[volume_number(record, n_slices, numbered)].append((key, record))
    first = min(volumes)
    whole: dict[int, list[K]] = {}
    for number in sorted(volumes):
        members = volumes[number]
        places = {slice_place(record) for _, record in members}
        if len(places) == len(members) == n_slices:
            whole[number - first] = [key for key, _ in members]
            continue
        error = BadVolume(
            f"expected {n_slices} slices in volume {number - first}, got {len(members)} at {len(places)} places; "
            "wait until the volume is whole",
            code="series.incomplete",
            volume=number - first,
            slices=len(places),
            of=n_slices,
        )
        on_bad(error)
    if not whole:
        raise error
    if len(volumes) != max(volumes) - first + 1:
        text = f"expected volumes without a gap, got {len(volumes)} numbered from {first} to {max(volumes)}"
        on_bad(BadVolume(text, code="series.incomplete"))
    return whole


def volume_number(record: DicomRecord, n_slices: int, numbered: bool) -> int:
    """Which volume of its series the slice belongs to: counted from 1 where the file says it (``numbered``), else from
    0 by its instance number. Raises BadVolume where the slice has none.
    """
    if numbered and record.frames[0].temporal_position is not None:
        return record.frames[0].temporal_position
    if record.instance_number is None:
        raise BadVolume("expected an instance number in every slice", code="dicom.no_number")
    return (record.instance_number - 1) // (record.images_in_acquisition or n_slices)


def slices_volume(
    records: Sequence[DicomRecord], tr_s: float, run: int, index: int, acquired_s: float | None
) -> Volume:
    """The volume of these slices, which may come in any order. Raises BadVolume where they are no stack."""
    head = records[0]
    same = {(record.rows, record.columns, record.dtype) for record in records}
    if len(same) != 1:
        raise BadVolume("expected slices of one size, got several", code="dicom.not_a_stack")
    order_Z, slice_step = slice_order(tuple(record.frames[0] for record in records))
    ordered = [records[k] for k in order_Z]
    frames = tuple(record.frames[0] for record in ordered)
    row_step, column_step, _ = plane_axes(frames[0])
    planes_ZYX = np.stack([np.frombuffer(r.pixels, r.dtype).reshape(r.rows, r.columns) for r in ordered])
    return Volume(
        data=stack(rescaled(planes_ZYX, frames)),
        affine=affine_ras(row_step, column_step, slice_step, np.array(frames[0].position_mm), head.rows),
        tr_s=tr_s,
        run=run,
        index=index,
        acquired_s=acquired_s,
        slice_times_s=stacked_times_s(ordered, tr_s),
    )


def stacked_times_s(records: Sequence[DicomRecord], tr_s: float) -> NDArray[np.float64] | None:
    """(Z,) seconds after the volume's first slice, by GE's clocks; None where there are none, or they cannot be right.

    GE's timer starts somewhere in the first volume, so that several slices of it say 0: times are believed only where
    every moment has equally many slices (one, or the multi-band factor).
    """
    clocks = [record.slice_clock for record in records if record.slice_clock is not None]
    if len(clocks) != len(records):
        return None
    try:
        order_Z, _ = slice_order(tuple(record.frames[0] for record in records))
    except BadVolume:  # no stack, which whoever reads the volume hears
        return None
    clocks_Z = np.array(clocks)[order_Z]
    moments, counts = np.unique(clocks_Z, return_counts=True)
    if len(moments) < 2 or len(set(counts.tolist())) != 1:
        return None
    since_first_Z = clocks_Z - clocks_Z.min()
    for unit_s in records[0].slice_clock_units_s:
        if since_first_Z.max() * unit_s < tr_s:
            times_Z: NDArray[np.float64] = np.round(since_first_Z * unit_s, 6)  # as the clock ticks
            return times_Z
    return None


def slice_place(record: DicomRecord) -> tuple[float, ...]:
    """Where the slice lies, to a hundredth of a millimetre. Raises BadVolume."""
    position_mm = record.frames[0].position_mm
    if position_mm is None:
        raise BadVolume("expected a position in every slice", code="dicom.no_geometry")
    return tuple(round(x, 2) for x in position_mm)
