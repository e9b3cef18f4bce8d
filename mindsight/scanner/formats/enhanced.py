"""Enhanced multi-frame DICOM (Siemens XA10 to XA61, Philips): one frame per slice, one or more volumes per object.

Knows nothing of files or of the other objects of a series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord, Frame
from mindsight.scanner.formats.geometry import affine_ras, plane_axes, rescaled, slice_order, stack
from mindsight.scanner.formats.image_type import is_magnitude
from mindsight.volume import Volume

ENHANCED_MR = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")  # the last is converted from single slices

Slot = tuple[tuple[float, ...] | None, float | None]


def is_enhanced(record: DicomRecord) -> bool:
    """Whether an object is enhanced: by its class or its frames, since archives write other classes."""
    return record.sop_class in ENHANCED_MR or len(record.frames) > 1


def enhanced_positions(record: DicomRecord) -> dict[int, list[int]]:
    """The volumes of one object: number in time (0 if frames state none), and the places of its frames.

    If frames of several components are mixed (Philips), only the magnitudes. A volume has each slice once: if the
    stated numbers contradict that (one number for all, none in some frames), the slices at each place are numbered by
    their clock, then by their dimension index, then in the order of the file.
    """
    magnitudes = [place for place, frame in enumerate(record.frames) if is_magnitude(frame)]
    chosen = magnitudes or list(range(len(record.frames)))
    numbers = {place: record.frames[place].temporal_position for place in chosen}
    stated = _grouped({place: number or 0 for place, number in numbers.items()})
    if (None not in numbers.values() or len(stated) == 1) and _tells_apart(record, stated):
        return stated
    alike: dict[Slot, list[int]] = defaultdict(list)
    for place in chosen:
        alike[_slot(record.frames[place])].append(place)
    if None in [frame.position_mm for frame in record.frames]:
        return stated
    counted: dict[int, int] = {}
    for places in alike.values():
        places.sort(key=lambda place: (record.frames[place].acquired_s or 0.0, record.frames[place].index, place))
        counted |= {place: number for number, place in enumerate(places, 1)}
    return _grouped(counted)


def _grouped(numbers: dict[int, int]) -> dict[int, list[int]]:
    volumes: dict[int, list[int]] = defaultdict(list)
    for place in sorted(numbers):
        volumes[numbers[place]].append(place)
    return {number: volumes[number] for number in sorted(volumes)}


def _slot(frame: Frame) -> Slot:
    """What a volume has only once: a slice's position and echo."""
    place = None if frame.position_mm is None else tuple(round(x, 2) for x in frame.position_mm)
    return place, frame.echo_time_ms


def _tells_apart(record: DicomRecord, volumes: dict[int, list[int]]) -> bool:
    """Whether no volume has a slice twice, and the volumes are not single slices of one volume."""
    slots = [[_slot(record.frames[place]) for place in places] for places in volumes.values()]
    if any(len(set(volume)) != len(volume) for volume in slots):
        return False
    apart = {slot for volume in slots for slot in volume}
    return len(slots) == 1 or max(map(len, slots)) > 1 or len(apart) < len(slots)


def enhanced_volume(record: DicomRecord, tr_s: float, run: int, index: int) -> Volume:
    """The volume of one object. Slices run along the normal of their planes, whatever the order of the frames.

    Raises BadVolume for several volumes in one object, or frames that are not a stack of slices.
    """
    positions = enhanced_positions(record)
    if len(positions) != 1:
        raise BadVolume(
            f"expected one volume in the enhanced DICOM object, got {len(positions)}; read it as a series",
            code="dicom.layout",
        )
    (places,) = positions.values()
    return _volume(record, places, tr_s, run, index)


def enhanced_volumes(
    record: DicomRecord, tr_s: float, run: int, first_index: int, on_bad: Callable[[BadVolume], None]
) -> Iterator[Volume]:
    """All volumes of one object in order of time; a gap in the frames' own numbers is a gap in ``index``.

    on_bad : called for a volume that is not a stack of slices; the others follow
    """
    positions = enhanced_positions(record)
    first = min(positions)
    for number, places in positions.items():
        index = first_index + number - first
        try:
            volume = _volume(record, places, tr_s, run, index)
        except BadVolume as error:
            on_bad(BadVolume(f"volume {index}: {error}", code=error.code, **error.details))
        else:
            yield volume


def _volume(record: DicomRecord, places: Sequence[int], tr_s: float, run: int, index: int) -> Volume:
    _check_one_stack(record, places)
    order_Z, slice_step = slice_order(tuple(record.frames[place] for place in places))
    ordered = [places[k] for k in order_Z]
    frames = tuple(record.frames[place] for place in ordered)
    row_step, column_step, _ = plane_axes(frames[0])
    pixels = np.frombuffer(record.pixels, record.dtype)
    planes_ZYX = pixels.reshape(len(record.frames), record.rows, record.columns)[ordered]

    start_s, slice_times_s = _moments(frames)
    return Volume(
        data=stack(rescaled(planes_ZYX, frames)),
        affine=affine_ras(row_step, column_step, slice_step, np.array(frames[0].position_mm), record.rows),
        tr_s=tr_s,
        run=run,
        index=index,
        acquired_s=start_s,
        slice_times_s=slice_times_s,
    )


def _check_one_stack(record: DicomRecord, places: Sequence[int]) -> None:
    """Raises BadVolume if the frames belong to several stacks that do not form a single one."""
    stacks = [[place for place in places if record.frames[place].stack == stack] for stack in range(len(places))]
    stacks = [stack for stack in stacks if stack]
    if len(stacks) < 2:
        return
    try:
        slice_order(tuple(record.frames[place] for place in places))
    except BadVolume:
        pass
    else:
        return  # numbered as several, but with equally spaced slices: one slab per band
    raise BadVolume(
        f"expected one stack of slices in a volume, got {len(stacks)} stacks; send each as a separate series",
        code="dicom.not_a_stack",
    )


def enhanced_moments(record: DicomRecord) -> dict[int, tuple[float | None, NDArray[np.float64] | None]]:
    """For each volume of the object, by its number in time: when it began, and its slice times as stated.

    Both are None if the frames are not a stack of slices; reading that volume raises the error.
    """
    moments: dict[int, tuple[float | None, NDArray[np.float64] | None]] = {}
    for number, places in enhanced_positions(record).items():
        frames = tuple(record.frames[place] for place in places)
        try:
            moments[number] = _moments(tuple(frames[k] for k in slice_order(frames)[0]))
        except BadVolume:
            moments[number] = None, None
    return moments


def _moments(frames: tuple[Frame, ...]) -> tuple[float | None, NDArray[np.float64] | None]:
    times = [frame.acquired_s for frame in frames if frame.acquired_s is not None]
    start_s = min(times, default=None)
    if start_s is None or len(times) != len(frames) or (len(frames) > 1 and max(times) == start_s):
        return start_s, None  # a common time of all frames is that of the volume
    return start_s, np.array(times) - start_s
