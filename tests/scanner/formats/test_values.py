"""Values mean signal: the bits that are stored, Philips' real scaling, NIfTI's slopes."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.pixels import stored_values
from support.dicom_files import (
    csa_of_mosaic,
    enhanced,
    item,
    mosaic,
    planes,
    put,
    seen,
    slices_of,
    written,
)
from support.par_files import Pair, write_pair


def words(values: np.ndarray) -> np.ndarray:
    return values.astype("<i2").view("<u2")


@pytest.mark.parametrize("above", [0x0000, 0xF000, 0x5000])
def test_signed_values_of_twelve_bits_whatever_is_above_them(above: int, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in (1, 2)]
    truth = []
    for k, dataset in enumerate(run, 1):
        values = np.frombuffer(dataset.PixelData, "<i2") - 420 - 300 * (k - 1)
        assert values.min() < 0 < values.max()
        truth.append(seen(planes(k) - 420 - 300 * (k - 1)))
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (words(values) & 0x0FFF | above).tobytes()
    for volume, expected in zip(open_series(put(tmp_path, run)), truth, strict=True):
        assert np.array_equal(volume.data, expected)


@pytest.mark.parametrize(
    ("stored", "high", "signed", "shift"),
    [(12, 11, 0, 0), (12, 15, 0, 4), (12, 15, 1, 4), (10, 11, 0, 2), (14, 13, 1, 0), (8, 15, 0, 8)],
)
def test_overlays_and_other_high_bits(stored: int, high: int, signed: int, shift: int) -> None:
    """Overlays in the bits that are not stored, and values that do not begin at the lowest bit."""
    dataset = slices_of(1)[0]
    truth = planes(0)[0] // 4 - (40 if signed else 0)
    noise = np.random.default_rng(0).integers(0, 1 << 16, truth.shape) & ~(((1 << stored) - 1) << shift)
    inside = (truth & ((1 << stored) - 1)) << shift
    dataset.PixelData = (inside | noise).astype("<u2").tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored, high, signed
    record = read_dicom(written(dataset))
    assert np.array_equal(np.frombuffer(record.pixels, record.dtype).reshape(truth.shape), truth)


@pytest.mark.parametrize(("stored", "high"), [(0, None), (17, 16), (12, 3), (12, 16), (16, None), (None, None)])
def test_bits_that_contradict_themselves_change_nothing(stored: int | None, high: int | None) -> None:
    content = bytes(range(256))
    assert stored_values(content, "<i2", stored, high) is content


@given(st.lists(st.integers(-2048, 2047), max_size=20), st.integers(0, 15))
def test_any_values_of_twelve_bits_come_back(values: list[int], above: int) -> None:
    raw = (words(np.array(values, "<i2")) & 0x0FFF | above << 12).tobytes()
    assert np.frombuffer(stored_values(raw, "<i2", 12, 11), "<i2").tolist() == values


def scaled(dataset: Dataset, signal: np.ndarray, rs: float | None, ri: float, ss: float, vr: str = "FL") -> None:
    """Philips' stored values of a signal: (stored × RS + RI) / (RS × SS)."""
    slope = 1.0 if rs is None else rs
    dataset.PixelData = np.round((signal * slope * ss - ri) / slope).astype("<i2").tobytes()
    if rs is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(rs), str(ri)
    block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0E, vr, str(ss) if vr == "DS" else ss)


@pytest.mark.parametrize(
    ("rs", "ri", "ss", "vr"),
    [
        (1.0, 0.0, 1.0, "FL"),
        (1.5, 0.0, 0.5, "FL"),
        (0.25, 16.0, 4.0, "DS"),
        (None, 0.0, 2.0, "FL"),
        (1.5, 0, 0.5, "FD"),
    ],
)
def test_philips_runs_of_one_signal_have_one_scale(
    rs: float | None, ri: float, ss: float, vr: str, tmp_path: Path
) -> None:
    run = slices_of(2)
    for dataset in run:
        scaled(dataset, dataset.pixel_array.astype(float), rs, ri, ss, vr)
    for k, volume in enumerate(open_series(put(tmp_path, run))):
        np.testing.assert_allclose(volume.data, seen(planes(k)), atol=0.51 / ss)


def test_dicom_and_par_rec_of_one_scan_agree(tmp_path: Path) -> None:
    """The same stored values with the same three numbers of each slice, in either format."""
    par = write_pair(tmp_path / "run.PAR", Pair(dynamics=(1,)))
    rows = [line.split() for line in par.read_text().splitlines() if line[:1] == " " and line.split()[2] == "1"]
    stored = np.frombuffer((tmp_path / "run.REC").read_bytes(), "<i2").reshape(len(rows), 5, 6)
    run = slices_of(1, n=len(rows))
    for dataset, row, plane in zip(run, rows, stored, strict=True):
        dataset.Rows, dataset.Columns, dataset.PixelData = 5, 6, plane.tobytes()
        dataset.RescaleIntercept, dataset.RescaleSlope = row[11], row[12]
        dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "DS", row[13])
    (tmp_path / "dicom").mkdir()
    (by_par,), (by_dicom,) = open_series(par), open_series(put(tmp_path / "dicom", run))
    assert by_par.data.std() > 1000.0
    np.testing.assert_allclose(np.sort(by_dicom.data, axis=None), np.sort(by_par.data, axis=None), rtol=1e-5)


@pytest.mark.parametrize("where", ["frame", "shared"])
def test_the_scale_of_an_enhanced_object_is_in_its_frames_own_sequence(where: str, tmp_path: Path) -> None:
    dataset = enhanced(2)
    signal = np.frombuffer(dataset.PixelData, "<i2").astype(float)
    dataset.PixelData = np.round(signal * 2.0).astype("<i2").tobytes()
    inner = Dataset()
    inner.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 2.0)
    frames = dataset.PerFrameFunctionalGroupsSequence
    for groups in frames:
        groups.PixelValueTransformationSequence = item(RescaleSlope=3.5, RescaleIntercept=0.0)
    for groups in frames if where == "frame" else dataset.SharedFunctionalGroupsSequence:
        groups.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", Sequence([inner]))
    for k, volume in enumerate(open_series(put(tmp_path, [dataset]))):
        np.testing.assert_allclose(volume.data, seen(planes(k)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), 1e-30, 3e38])
def test_a_scale_that_cannot_be_one_leaves_the_rescaling(scale: float) -> None:
    dataset = slices_of(1)[0]
    dataset.RescaleSlope, dataset.RescaleIntercept = "2.0", "5.0"
    dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", scale)
    frame = read_dicom(written(dataset)).frames[0]
    assert (frame.slope, frame.intercept) == (2.0, 5.0)


def test_the_real_worlds_mapping_replaces_a_rescaling_that_is_not_there() -> None:
    dataset = slices_of(1)[0]
    dataset.RealWorldValueMappingSequence = item(RealWorldValueSlope=0.5, RealWorldValueIntercept=1.0)
    frame = read_dicom(written(dataset)).frames[0]
    assert (frame.slope, frame.intercept) == (0.5, 1.0)
    dataset.RescaleSlope = "2.0"
    assert read_dicom(written(dataset)).frames[0].slope == 2.0


def test_a_philips_file_has_its_real_scale(shared: Path) -> None:
    path = shared / "data" / "philips_elition_slices8" / "2101_0001.dcm"
    scale = pydicom.dcmread(path)[0x2005, 0x100E].value
    assert read_dicom(path.read_bytes(), header_only=True).frames[0].slope == pytest.approx(1.0 / scale)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [
        (float("nan"), float("nan"), (1.0, 0.0)),
        (float("nan"), 0.0, (1.0, 0.0)),
        (0.0, float("nan"), (1.0, 0.0)),
        (0.0, float("inf"), (1.0, 0.0)),
        (2.0, float("nan"), (2.0, 0.0)),
        (2.0, 1.0, (2.0, 1.0)),
    ],
)
def test_a_nifti_slope_that_is_no_number_is_no_scaling(
    slope: float, inter: float, expected: tuple[float, float], tmp_path: Path
) -> None:
    values = np.arange(5 * 6 * 7 * 2, dtype=np.int16).reshape(5, 6, 7, 2)
    header = nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
    header.header.set_xyzt_units("mm", "sec")
    header.header["pixdim"][4] = 1.5
    content = bytearray(header.to_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    (tmp_path / "bold.nii").write_bytes(content)
    data = np.stack([volume.data for volume in open_series(tmp_path / "bold.nii")], -1)
    assert np.array_equal(data, values * expected[0] + expected[1])


@pytest.mark.parametrize(("slope", "inter"), [(float("inf"), 0.0), (2.0, float("inf")), (float("-inf"), float("nan"))])
def test_an_infinite_slope_is_refused(slope: float, inter: float, tmp_path: Path) -> None:
    content = bytearray(nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([2.0, 2, 2, 1])).to_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    (tmp_path / "bold.nii").write_bytes(content)
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path / "bold.nii", tr_s=2.0)
    assert caught.value.code == "nifti.slope"
