"""DICOM's planes → an affine. Knows nothing of files or vendors.

Planes are stored with x along a row and y from the last row to the first, as dcm2niix writes them, so that a volume
here equals the NIfTI image that a laboratory already has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import Frame

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def plane_axes(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps in millimetres (LPS) along a row and down a column, (3,) each, and the unit normal of the two.

    Raises BadVolume if the object does not state how its plane lies.
    """
    if frame.orientation is None or frame.spacing_mm is None or frame.position_mm is None:
        stated = {"position": frame.position_mm, "orientation": frame.orientation, "pixel spacing": frame.spacing_mm}
        lacking = " and ".join(name for name, value in stated.items() if value is None)
        raise BadVolume(
            f"expected the plane's position, orientation and pixel spacing, got no readable {lacking}; export with "
            "these elements",
            code="dicom.no_geometry",
        )
    along_row, down_column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    normal = np.cross(along_row, down_column)
    length = float(np.linalg.norm(normal))
    if not 0.99 < length < 1.01:
        raise BadVolume("expected two perpendicular unit vectors as the plane's orientation", code="dicom.no_geometry")
    # PixelSpacing is (between rows, between columns): PS3.3 section 10.7.
    return along_row * frame.spacing_mm[1], down_column * frame.spacing_mm[0], normal / length


def affine_ras(
    row_step: NDArray[np.float64],
    column_step: NDArray[np.float64],
    slice_step: NDArray[np.float64],
    first_pixel: NDArray[np.float64],
    n_rows: int,
) -> NDArray[np.float64]:
    """(4, 4) from the voxel index of ``stack`` to RAS+ millimetres; the steps and the first pixel are in LPS."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row_step, -column_step, slice_step
    affine[:3, 3] = first_pixel + column_step * (n_rows - 1)
    return LPS_TO_RAS @ affine


def stack(planes_ZYX: NDArray[Any]) -> NDArray[Any]:
    """(X, Y, Z) in Fortran order from planes of rows: y runs from the last row to the first."""
    return np.ascontiguousarray(planes_ZYX[:, ::-1]).T


def rescaled(planes_ZYX: NDArray[Any], frames: tuple[Frame, ...]) -> NDArray[Any]:
    """The values in the scanner's unit; unchanged, in their own dtype, if no plane has a slope or an intercept.

    Raises BadVolume if some planes state a scale and others do not: their values have different units.
    """
    if all(frame.slope == 1.0 and frame.intercept == 0.0 for frame in frames):
        return planes_ZYX
    stated = [frame.scaling for frame in frames]
    if len(set(stated)) > 1 and ("Philips" in stated or "" in stated):
        n = stated.count("Philips") or len(stated) - stated.count("")
        what = "Philips' real scale" if "Philips" in stated else "a rescaling"
        text = f"expected {what} in every slice of a volume, got it in {n} of {len(stated)}"
        raise BadVolume(f"{text}; export with all elements", code="dicom.scale")
    slope_Z = np.array([frame.slope for frame in frames])[:, None, None]
    intercept_Z = np.array([frame.intercept for frame in frames])[:, None, None]
    with np.errstate(all="ignore"):  # values beyond float32 become infinite, and are censored like any spike
        values_ZYX: NDArray[Any] = planes_ZYX * slope_Z + intercept_Z
        return values_ZYX.astype(np.float32)


def slice_order(frames: tuple[Frame, ...]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which frame is slice 0, 1, ... along the normal of the planes, and the (3,) step between slices in LPS.

    Raises BadVolume if the frames are not parallel, equally spaced planes.
    """
    _, _, normal = plane_axes(frames[0])
    positions_Z3 = np.array([frame.position_mm for frame in frames if frame.position_mm is not None])
    same_plane = all(
        frame.orientation is not None
        and frame.spacing_mm == frames[0].spacing_mm
        and np.allclose(frame.orientation, np.array(frames[0].orientation), atol=1e-4)
        for frame in frames
    )
    if len(positions_Z3) != len(frames) or not same_plane:
        raise BadVolume("expected parallel planes, got slices of different orientation", code="dicom.not_a_stack")
    order_Z = np.argsort(positions_Z3 @ normal, kind="stable")
    if len(frames) == 1:
        return order_Z, normal * (frames[0].slice_spacing_mm or 1.0)
    steps = np.diff(positions_Z3[order_Z], axis=0)
    step = (positions_Z3[order_Z[-1]] - positions_Z3[order_Z[0]]) / (len(frames) - 1)
    if np.linalg.norm(step) < 1e-3 or np.abs(steps - step).max() > 0.05 * float(np.linalg.norm(step)):
        raise BadVolume(
            "expected equally spaced slices, got gaps or doubles; a slice may be missing: send the series again",
            code="dicom.not_a_stack",
        )
    return order_Z, step
