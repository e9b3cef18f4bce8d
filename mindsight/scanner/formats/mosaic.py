"""Siemens mosaic (VB to VE): the slices of a volume as tiles of one image.

Knows nothing of files or of the other volumes of a series.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.geometry import affine_ras, plane_axes, rescaled, stack
from mindsight.volume import Volume


def is_mosaic(record: DicomRecord) -> bool:
    return "MOSAIC" in record.image_type


def mosaic_volume(record: DicomRecord, tr_s: float, run: int, index: int) -> Volume:
    """The volume of one mosaic. Its slices run along the normal of their planes; tiles against it are reversed.

    The stated position is the corner of one image of the mosaic's size. The first slice has the size of a tile around
    the same centre (nibabel's notes on Siemens mosaics).

    Only the CSA header states the direction of the slices. If it is missing or unreadable, but the open private
    elements state the slices, they are assumed to run along the normal of their plane (``mosaic_note`` warns about it).

    Raises BadVolume for a missing slice count, a CSA header without the normal, or tiles that do not fit.
    """
    n = _n_slices(record)
    side = math.isqrt(n - 1) + 1 if n > 0 else 0
    if side < 1 or record.rows % side or record.columns % side or n > 512:
        raise BadVolume(
            f"expected {n} tiles to fit {record.rows}×{record.columns} pixels; the file is damaged, export it again",
            code="dicom.bad_mosaic",
        )
    n_rows, n_columns = record.rows // side, record.columns // side

    frame = record.frames[0]
    row_step, column_step, plane_normal = plane_axes(frame)
    slice_normal = plane_normal if record.csa_normal is None else np.array(record.csa_normal)
    if not frame.slice_spacing_mm:
        text = "expected the distance between slices or their thickness, got neither; export with these elements"
        raise BadVolume(text, code="dicom.no_geometry")
    if abs(float(plane_normal @ slice_normal)) < 0.99:
        raise BadVolume("expected slices along the normal of their plane, got others", code="dicom.no_geometry")
    slice_step = frame.slice_spacing_mm * plane_normal
    corner = (
        np.array(frame.position_mm)
        + row_step * (record.columns - n_columns) / 2
        + column_step * (record.rows - n_rows) / 2
    )

    tiles = np.frombuffer(record.pixels, record.dtype).reshape(side, n_rows, side, n_columns).transpose(0, 2, 1, 3)
    planes_ZYX = tiles.reshape(side * side, n_rows, n_columns)[:n]
    # The plane's own normal has more digits; the CSA header adds the direction of the tiles.
    if float(plane_normal @ slice_normal) < 0:
        planes_ZYX = planes_ZYX[::-1]
        corner = corner - slice_step * (n - 1)
    return Volume(
        data=stack(rescaled(planes_ZYX, record.frames)),
        affine=affine_ras(row_step, column_step, slice_step, corner, n_rows),
        tr_s=tr_s,
        run=run,
        index=index,
        acquired_s=frame.acquired_s,
        slice_times_s=mosaic_times_s(record),
    )


def directed(record: DicomRecord, normal: tuple[float, ...] | None) -> DicomRecord:
    """The record, with the slice normal of others in its series if it states none itself."""
    if normal is None or not is_mosaic(record) or record.csa_normal is not None or record.csa_slices is None:
        return record
    return replace(record, csa_normal=normal)


def mosaic_note(record: DicomRecord) -> str | None:
    """A note for the operator if a mosaic does not state the direction of its slices."""
    if not is_mosaic(record) or record.csa_normal is not None or record.csa_slices is None:
        return None
    why = "there is no CSA header" if record.csa_readable is None else "the CSA header cannot be read"
    return f"{why}: the slices are assumed to run along their plane's normal; check which end of the head comes first"


def _n_slices(record: DicomRecord) -> int:
    if record.csa_slices is not None and (record.csa_normal is not None or not record.csa_readable):
        return record.csa_slices
    if record.csa_readable is None:
        text = (
            "expected Siemens' CSA header with the mosaic's slice count and normal, got none; export with private tags"
        )
    elif record.csa_readable:
        text = "expected the mosaic's slice count and normal in the CSA header, got one without; export the image again"
    else:
        text = (
            "the CSA header cannot be read, and nothing else states the mosaic's slice count; export with private tags "
            "as the scanner wrote them"
        )
    raise BadVolume(text, code="dicom.no_csa")


def mosaic_times_s(record: DicomRecord) -> NDArray[np.float64] | None:
    """(Z,) seconds after the first slice as stated in the header, in the volume's order of slices.

    Some versions count from midnight, some from the start of the volume. ``timing.py`` decides whether to use them.
    """
    if not record.csa_times_ms:
        return None
    times_Z = (np.array(record.csa_times_ms) - min(record.csa_times_ms)) / 1000.0
    if record.csa_normal is None:
        return times_Z
    orientation = record.frames[0].orientation or (0.0,) * 6
    turned = float(np.cross(orientation[:3], orientation[3:]) @ np.array(record.csa_normal)) < 0
    return times_Z[::-1].copy() if turned else times_Z
