"""One slice per DICOM object (GE, Philips): slices are sorted into volumes, and volumes assembled from slices.

Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.geometry import affine_ras, plane_axes, rescaled, slice_order, stack
from mindsight.scanner.formats.object_numbers import over_midnight, refuse_several_runs
from mindsight.scanner.formats.slice_locations import SliceLocation, followed_locations
from mindsight.volume import Volume

K = TypeVar("K", bound=Hashable)


def group_slices(slices: Sequence[tuple[K, DicomRecord]], on_bad: Callable[[BadVolume], None]) -> dict[int, list[K]]:
    """Which objects make up volume 0, 1, ...: their keys, volume by volume.

    on_bad : called for volumes that lack slices or have one twice, and for gaps between volumes

    Philips numbers the volumes (TemporalPositionIdentifier), and its instance number runs through time first; GE does
    not number them, and its instance number runs through the slices first. Exports keep only some of this. The count
    that yields volumes with each slice once is the one used.

    Raises BadVolume if no volume is complete, and what ``on_bad`` raises.
    """
    records = [record for _, record in slices]
    locations_of = followed_locations(records)
    counts = Counter(locations_of)
    n_slices = sum(4 * count > max(counts.values()) for count in counts.values())  # a stray slice is not a location
    volumes: dict[int, list[tuple[K, SliceLocation]]] = defaultdict(list)
    numbers = _volume_numbers(records, locations_of, n_slices)
    for (key, _), location, number in zip(slices, locations_of, numbers, strict=True):
        volumes[number].append((key, location))
    first = min(volumes)
    whole: dict[int, list[K]] = {}
    for number in sorted(volumes):
        members = volumes[number]
        locations = {location for _, location in members}
        if len(locations) == len(members) == n_slices:
            whole[number - first] = [key for key, _ in members]
            continue
        advice = "wait until the volume is whole" if len(locations) < n_slices else "remove the duplicates"
        error = BadVolume(
            f"expected {n_slices} slices in volume {number - first}, got {len(members)} at {len(locations)} positions; "
            f"{advice}",
            code="series.incomplete",
            volume=number - first,
            slices=len(locations),
            of=n_slices,
        )
        on_bad(error)
    if not whole:
        raise error
    if len(volumes) != max(volumes) - first + 1:
        text = f"expected volumes without a gap, got {len(volumes)} numbered from {first} to {max(volumes)}"
        on_bad(BadVolume(text, code="series.incomplete"))
    return whole


def _volume_numbers(records: Sequence[DicomRecord], locations: Sequence[SliceLocation], n_slices: int) -> list[int]:
    """Each slice's volume, by the first of these counts that completes the most volumes.

    Temporal positions; instance numbers through the slices of a volume, then through time; acquisition numbers; the
    order of instance numbers, and of the clock, at each location. Any of them may be missing, constant, or wrong in
    some slices.

    Raises BadVolume if no field of the files counts volumes.
    """
    _refuse_several_runs(records, locations)
    best: list[int] | None = None
    most = -1
    for numbers in _countings(records, locations, n_slices):
        n_whole = _n_whole(numbers, locations, n_slices)
        if n_whole > most:
            best, most = numbers, n_whole
    if best is None:
        raise BadVolume(
            "expected slices that state their volume by a temporal position, an instance number or their time, got "
            "none of these in all of them; export with these elements",
            code="dicom.no_number",
        )
    return best


def _refuse_several_runs(records: Sequence[DicomRecord], locations: Sequence[SliceLocation]) -> None:
    """Checks the numbers of the slices at one location. Raises BadVolume."""
    at = [record for record, location in zip(records, locations, strict=True) if location == locations[0]]
    counted = [(record.frames[0].acquired_s, record.instance_number) for record in at]
    known = [(moment_s, number) for moment_s, number in counted if moment_s is not None and number is not None]
    if len(known) == len(at) == len({moment_s for moment_s, _ in known}):
        refuse_several_runs(sorted(known))


def _countings(
    records: Sequence[DicomRecord], locations: Sequence[SliceLocation], n_slices: int
) -> Iterator[list[int]]:
    temporal = [record.frames[0].temporal_position for record in records]
    if None not in temporal:
        yield [number for number in temporal if number is not None]
    instances = [record.instance_number for record in records if record.instance_number is not None]
    if len(instances) == len(records) and len(set(instances)) > 1:
        stated = {record.images_in_acquisition for record in records} - {None}
        strides = dict.fromkeys((n_slices, *sorted(count for count in stated if count is not None)))
        for base in dict.fromkeys((1, min(instances))):
            yield from ([(number - base) // stride for number in instances] for stride in strides)
        n_volumes = max(Counter(locations).values())
        yield from ([(number - base) % n_volumes for number in instances] for base in (1, min(instances)))
    acquisitions = [record.acquisition_number for record in records if record.acquisition_number is not None]
    if len(acquisitions) == len(records) and len(set(acquisitions)) > 1:
        yield acquisitions
    if len(instances) == len(records):
        yield from _ranked(instances, locations)
    moments = {k: record.frames[0].acquired_s for k, record in enumerate(records)}
    known = over_midnight({k: moment_s for k, moment_s in moments.items() if moment_s is not None})
    clock = [(known.get(k), record.slice_clock) for k, record in enumerate(records)]
    if all(moment != (None, None) for moment in clock):
        yield from _ranked([(since or 0.0, of_slice or 0.0) for since, of_slice in clock], locations)


def _ranked(values: Sequence[Any], locations: Sequence[SliceLocation]) -> Iterator[list[int]]:
    """Each slice's rank by these values among the slices at its location, if the ranks distinguish all volumes."""
    at: dict[SliceLocation, list[Any]] = defaultdict(list)
    for value, location in zip(values, locations, strict=True):
        at[location].append(value)
    if len({len(found) for found in at.values()}) != 1 or any(len(set(found)) != len(found) for found in at.values()):
        return
    ordered = {location: {value: rank for rank, value in enumerate(sorted(found))} for location, found in at.items()}
    yield [ordered[location][value] for value, location in zip(values, locations, strict=True)]


def _n_whole(numbers: Sequence[int], locations: Sequence[SliceLocation], n_slices: int) -> int:
    members: dict[int, list[SliceLocation]] = defaultdict(list)
    for number, location in zip(numbers, locations, strict=True):
        members[number].append(location)
    return sum(len(found) == len(set(found)) == n_slices for found in members.values())


def slices_volume(
    records: Sequence[DicomRecord], tr_s: float, run: int, index: int, acquired_s: float | None
) -> Volume:
    """The volume of these slices, in any order. Raises BadVolume if they are not a stack."""
    head = records[0]
    same = {(record.rows, record.columns) for record in records}
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
    """(Z,) seconds after the volume's first slice, by GE's clocks; None if there are none, or they cannot be right.

    GE's timer starts somewhere in the first volume, so that several of its slices state 0. Times are used only if every
    time has equally many slices (one, or the multi-band factor).
    """
    clocks = [record.slice_clock for record in records if record.slice_clock is not None]
    if len(clocks) != len(records):
        return None
    try:
        order_Z, _ = slice_order(tuple(record.frames[0] for record in records))
    except BadVolume:  # not a stack; reading the volume raises the error
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
