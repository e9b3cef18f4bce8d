"""Enhanced multi-frame DICOM (Siemens XA10 to XA61): one object per volume, one frame per slice.

Knows nothing of files or of the other volumes of a series.
"""

from __future__ import annotations

import numpy as np

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.geometry import affine_ras, plane_axes, rescaled, slice_order, stack
from mindsight.volume import Volume

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def is_enhanced(record: DicomRecord) -> bool:
    return record.sop_class == ENHANCED_MR


def enhanced_volume(record: DicomRecord, tr_s: float, run: int, index: int) -> Volume:
    """The volume of one object. Slices run along the normal of their planes, in whatever order the frames come.

    Raises BadVolume: several volumes in one object, or frames that are no stack of slices.
    """
    if len({frame.temporal_position for frame in record.frames}) != 1:
        raise BadVolume(
            "expected one volume per enhanced DICOM object, got several; export one object per volume",
            code="dicom.layout",
        )
    order_Z, slice_step = slice_order(record.frames)
    frames = tuple(record.frames[k] for k in order_Z)
    row_step, column_step, _ = plane_axes(frames[0])
    planes_ZYX = np.frombuffer(record.pixels, record.dtype).reshape(len(frames), record.rows, record.columns)[order_Z]

    times = [frame.acquired_s for frame in frames if frame.acquired_s is not None]
    start_s = min(times, default=None)
    slice_times_s = None
    if start_s is not None and len(times) == len(frames) and max(times) - start_s <= tr_s:
        slice_times_s = np.array(times) - start_s
    return Volume(
        data=stack(rescaled(planes_ZYX, frames)),
        affine=affine_ras(row_step, column_step, slice_step, np.array(frames[0].position_mm), record.rows),
        tr_s=tr_s,
        run=run,
        index=index,
        acquired_s=start_s,
        slice_times_s=slice_times_s,
    )
