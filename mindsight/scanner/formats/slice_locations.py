"""Which of a stack's slices an object is, even if the stack follows the head. Knows nothing of volumes or files.

With prospective motion correction (Siemens' PACE) the scanner moves the slices with the head, and each volume states
other positions. From one volume to the next they move by less than half of the distance between two slices. So a slice
is followed by the last position of its centre along the normal of its plane: a rotation moves corners much further.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord

SliceLocation = tuple[float, ...]

FOLLOWED_SHARE = 0.45  # of the distance between two slices
SAME_LOCATION_MM = 0.05  # stated positions differ in their last digits
SAME_PLANE = 0.9  # cosine between normals: the planes of localisers are other locations
MAX_BESIDE_MM = 40.0
MAX_LOCATIONS = 2048  # more than any stack has; further ones are not followed


def slice_location(record: DicomRecord) -> SliceLocation:
    """Position of the slice, to a hundredth of a millimetre. Raises BadVolume."""
    position_mm = record.frames[0].position_mm
    if position_mm is None:
        raise BadVolume("expected a position in every slice, got none; export with it", code="dicom.no_geometry")
    return tuple(round(x, 2) for x in position_mm)


class SliceLocations:
    """Locations of slices in order of time. A location is named by its first position."""

    def __init__(self) -> None:
        self._named: dict[SliceLocation, SliceLocation] = {}  # name by current position
        self._centres: dict[SliceLocation, NDArray[np.float64]] = {}
        self._normals: dict[SliceLocation, NDArray[np.float64]] = {}
        self._positions: dict[SliceLocation, SliceLocation] = {}  # current position by name

    def follow(self, record: DicomRecord) -> SliceLocation:
        """The location of a slice. Raises BadVolume if it has no position."""
        now = slice_location(record)
        known = self._named.get(now)
        if known is not None or len(self._named) >= MAX_LOCATIONS:
            return known or now
        plane = _centre_and_normal(record)
        if plane is None:
            return self._named.setdefault(now, now)
        centre, normal = plane
        near = self._nearest(centre, normal, _within_mm(record))
        if near is None:
            name = now if now not in self._centres else (*now, float(len(self._named)))
        else:
            name = self._named.pop(near)
        self._named[now], self._positions[name] = name, now
        self._centres[name], self._normals[name] = centre, normal
        return name

    def _nearest(
        self, centre: NDArray[np.float64], normal: NDArray[np.float64], within_mm: float
    ) -> SliceLocation | None:
        names = [name for name in self._named.values() if name in self._centres]
        if not names:
            return None
        moved_P3 = centre - np.array([self._centres[name] for name in names])
        along_P = np.abs(moved_P3 @ normal)
        is_other_P = np.array([self._normals[name] for name in names]) @ normal < SAME_PLANE
        along_P[is_other_P | ((moved_P3**2).sum(axis=1) >= MAX_BESIDE_MM**2)] = np.inf
        nearest = int(np.argmin(along_P))
        return self._positions[names[nearest]] if along_P[nearest] < within_mm else None


def _within_mm(record: DicomRecord) -> float:
    return max(SAME_LOCATION_MM, FOLLOWED_SHARE * abs(record.frames[0].slice_spacing_mm or 0.0))


def _centre_and_normal(record: DicomRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    frame = record.frames[0]
    if frame.orientation is None or frame.spacing_mm is None or frame.position_mm is None:
        return None
    along_row, down_column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    between_rows_mm, between_columns_mm = frame.spacing_mm
    centre = (
        np.array(frame.position_mm)
        + 0.5 * (record.columns - 1) * between_columns_mm * along_row
        + 0.5 * (record.rows - 1) * between_rows_mm * down_column
    )
    return centre, np.cross(along_row, down_column)


def followed_locations(records: Sequence[DicomRecord]) -> list[SliceLocation]:
    """The location of each slice of a whole run, in any order. Raises BadVolume if one has no position."""
    locations = [slice_location(record) for record in records]
    clocks = [record.frames[0].acquired_s for record in records]
    order = sorted(range(len(records)), key=lambda k: (clocks[k] or 0.0, records[k].instance_number or 0))
    following = SliceLocations()
    for k in order:
        locations[k] = following.follow(records[k])
    return locations
