"""What headers say of place and slice times, to the bit as nibabel has it, which a console does without."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.parrec import PARRECHeader, image_def_dtds
from nibabel.spatialimages import HeaderDataError

from mindsight.scanner.formats import nifti_fields, par_geometry

HEADERS = {348: Nifti1Header, 540: Nifti2Header}
CODES = st.integers(0, 4)


def numbers(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest, width=32)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, str]:
    """The block of a header whose geometry is anything, also what no header may hold, and its byte order."""
    order = draw(st.sampled_from("<>"))
    header: Any = HEADERS[draw(st.sampled_from(sorted(HEADERS)))](endianness=order)
    raw = header.structarr
    raw["dim"] = [3, *draw(st.lists(st.integers(1, 512), min_size=3, max_size=3)), 1, 1, 1, 1]
    raw["pixdim"][:4] = [draw(st.sampled_from((1.0, -1.0, 2.0))), *(draw(numbers(5.0)) for _ in range(3))]
    if draw(st.booleans()):
        raw["pixdim"][1:4] = np.abs(raw["pixdim"][1:4])
    quaternion = np.array([draw(numbers(1.0)) for _ in range(3)])
    length = np.linalg.norm(quaternion) * draw(st.sampled_from((1.0, 1.0 - 1e-9, 1.5, 2.0)))  # 180°, nearly, others
    for name, number in zip("bcd", quaternion / length if length > 0.1 else quaternion, strict=True):
        raw[f"quatern_{name}"] = number
    for name in "xyz":
        raw[f"qoffset_{name}"] = draw(numbers(300.0))
        raw[f"srow_{name}"] = [draw(numbers(300.0)) for _ in range(4)]
    raw["qform_code"], raw["sform_code"] = draw(CODES), draw(st.sampled_from((0, 0, 1)))
    raw["dim_info"], raw["slice_code"] = draw(st.integers(0, 255)), draw(st.integers(0, 9))
    raw["slice_start"] = draw(st.sampled_from((0, 0, 0, 1, -1)))
    raw["slice_end"] = draw(st.sampled_from((0, 0, -1, 1))) + draw(st.sampled_from((0, int(raw["dim"][3]) - 1)))
    raw["slice_duration"] = draw(st.floats(0.0, 500.0, width=32))
    return header.binaryblock, order


def by_nibabel(block: bytes, order: str) -> Any:
    return HEADERS[len(block)](block, endianness=order, check=False)


@settings(max_examples=150, deadline=None)
@given(headers())
def test_a_nifti_affine_is_nibabels(block_and_order: tuple[bytes, str]) -> None:
    try:
        with np.errstate(all="ignore"):
            expected = np.asarray(by_nibabel(*block_and_order).get_best_affine(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        with pytest.raises(ValueError, match="expected"):
            nifti_fields.best_affine(nifti_fields.header_fields(*block_and_order))
    else:
        affine = nifti_fields.best_affine(nifti_fields.header_fields(*block_and_order))
        assert affine.dtype == expected.dtype
        assert affine.tobytes() == expected.tobytes()


@settings(max_examples=150, deadline=None)
@given(headers())
def test_nifti_slice_times_are_nibabels(block_and_order: tuple[bytes, str]) -> None:
    header = by_nibabel(*block_and_order)
    n_slices = int(header["dim"][3])
    try:
        times = header.get_slice_times()
    except (LookupError, HeaderDataError):
        times = ()
    found = nifti_fields.slice_times(nifti_fields.header_fields(*block_and_order), n_slices)
    if len(times) != n_slices or None in times:
        assert found is None
    else:
        assert found is not None
        assert found.tolist() == list(times)


@pytest.mark.parametrize("code", range(1, 7))
@pytest.mark.parametrize("n_slices", [1, 2, 7, 8])
def test_each_order_of_slices_is_nibabels(code: int, n_slices: int) -> None:
    header: Any = Nifti1Header()
    header.set_data_shape((4, 4, n_slices))
    header.set_dim_info(slice=2)
    header["slice_code"], header["slice_duration"] = code, 0.075
    found = nifti_fields.slice_times(nifti_fields.header_fields(header.binaryblock, header.endianness), n_slices)
    assert found is not None
    assert found.tolist() == list(header.get_slice_times())


ANGLES = st.one_of(st.just(0.0), st.floats(-180.0, 180.0))
SHIFTS = st.floats(-200.0, 200.0)
SPACINGS = st.floats(0.1, 20.0)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(1, 128)] * 3), st.tuples(*[SPACINGS] * 4), st.integers(1, 3), st.tuples(*[ANGLES] * 3),
    st.tuples(*[SHIFTS] * 3),
)  # fmt: skip
def test_a_par_affine_is_nibabels(
    shape: tuple[int, int, int],
    sizes_mm: tuple[float, float, float, float],
    orientation: int,
    angles: tuple[float, float, float],
    shift: tuple[float, float, float],
) -> None:
    images = np.zeros(shape[2], dtype=image_def_dtds["V4"])
    images["slice number"] = np.arange(1, shape[2] + 1)
    images["image pixel size"], images["recon resolution"] = 16, shape[:2]
    images["pixel spacing"], images["slice thickness"], images["slice gap"] = sizes_mm[:2], sizes_mm[2], sizes_mm[3]
    images["slice orientation"] = orientation
    general = {"max_slices": shape[2], "angulation": np.array(angles), "off_center": np.array(shift)}
    header: Any = PARRECHeader
    expected = np.asarray(header(general, images).get_affine(), dtype=np.float64)
    spacing = (sizes_mm[0], sizes_mm[1], sizes_mm[2] + sizes_mm[3])
    affine = par_geometry.affine_ras(shape, spacing, orientation, angles, np.array(shift))
    assert np.array_equal(affine, expected)
    assert math.isclose(abs(float(np.linalg.det(affine))), math.prod(spacing), rel_tol=1e-9)
