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
    """The volumes of one object: number in time (0 if frames state none), and the indices of its frames.

    If frames of several components are mixed (Philips), only the magnitudes. A volume has each slice once: if the
    stated numbers contradict that (one number for all, none in some frames), the slices at each location are numbered
    by their clock, then by their dimension index, then in the order of the file.
    """
    magnitudes = [i for i, frame in enumerate(record.frames) if is_magnitude(frame)]
    chosen = magnitudes or list(range(len(record.frames)))
    numbers = {i: record.frames[i].temporal_position for i in chosen}
    stated = _grouped({i: number or 0 for i, number in numbers.items()})
    if (None not in numbers.values() or len(stated) == 1) and _tells_apart(record, stated):
        return stated
    alike: dict[Slot, list[int]] = defaultdict(list)
    for i in chosen:
        alike[_slot(record.frames[i])].append(i)
    if None in [frame.position_mm for frame in record.frames]:
        return stated
    counted: dict[int, int] = {}
    for indices in alike.values():
        indices.sort(key=lambda i: (record.frames[i].acquired_s or 0.0, record.frames[i].index, i))
        counted |= {i: number for number, i in enumerate(indices, 1)}
    return _grouped(counted)


def _grouped(numbers: dict[int, int]) -> dict[int, list[int]]:
    volumes: dict[int, list[int]] = defaultdict(list)
    for i in sorted(numbers):
        volumes[numbers[i]].append(i)
    return {number: volumes[number] for number in sorted(volumes)}


def _slot(frame: Frame) -> Slot:
    """What a volume has only once: a slice's position and echo."""
    location = None if frame.position_mm is None else tuple(round(x, 2) for x in frame.position_mm)
    return location, frame.echo_time_ms


def _tells_apart(record: DicomRecord, volumes: dict[int, list[int]]) -> bool:
    """Whether no volume has a slice twice, and the volumes are not single slices of one volume."""
    slots = [[_slot(record.frames[i]) for i in indices] for indices in volumes.values()]
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
    (indices,) = positions.values()
    return _volume(record, indices, tr_s, run, index)


def enhanced_volumes(
    record: DicomRecord, tr_s: float, run: int, first_index: int, on_bad: Callable[[BadVolume], None]
) -> Iterator[Volume]:
    """All volumes of one object in order of time; a gap in the frames' own numbers is a gap in ``index``.

    on_bad : called for a volume that is not a stack of slices; the others follow
    """
    positions = enhanced_positions(record)
    first = min(positions)
    for number, indices in positions.items():
        index = first_index + number - first
        try:
            volume = _volume(record, indices, tr_s, run, index)
        except BadVolume as error:
            on_bad(BadVolume(f"volume {index}: {error}", code=error.code, **error.details))
        else:
            yield volume


def _volume(record: DicomRecord, indices: Sequence[int], tr_s: float, run: int, index: int) -> Volume:
    _check_one_stack(record, indices)
    order_Z, slice_step = slice_order(tuple(record.frames[i] for i in indices))
    ordered = [indices[k] for k in order_Z]
    frames = tuple(record.frames[i] for i in ordered)
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


def _check_one_stack(record: DicomRecord, indices: Sequence[int]) -> None:
    """Raises BadVolume if the frames belong to several stacks that do not form a single one."""
    stacks = [[i for i in indices if record.frames[i].stack == stack] for stack in range(len(indices))]
    stacks = [stack for stack in stacks if stack]
    if len(stacks) < 2:
        return
    try:
        slice_order(tuple(record.frames[i] for i in indices))
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
    for number, indices in enhanced_positions(record).items():
        frames = tuple(record.frames[i] for i in indices)
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
