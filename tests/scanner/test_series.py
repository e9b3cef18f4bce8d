"""Every real set of scanner files reads; where dcm2niix's NIfTI comes with it, data and affine are the same."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_series, read_volume
from mindsight.scanner.series import Series
from mindsight.volume import Volume


@cache
def opened(path: Path) -> Series:
    """Opened once for all tests of this file."""
    return open_series(path)


@cache
def whole_series(path: Path) -> tuple[Volume, ...]:
    """Read once for all tests of this file."""
    volumes = tuple(opened(path))
    for volume in volumes:
        volume.data.flags.writeable = False
    return volumes


@pytest.mark.parametrize(
    ("series", "truth"),
    [
        ("siemens_vd13_mosaic_order/ep2d_Asc_2", "siemens_vd13_mosaic_order/2_ep2d_Asc.nii"),
        ("siemens_vd13_mosaic_order/ep2d_Asc_HF_10", "siemens_vd13_mosaic_order/10_ep2d_Asc_HF.nii"),
        ("ge_mr750/mr_0004", "ge_mr750/DCM2NIIX_regression_test_4.nii"),
        ("ge_mr750/mr_0005", "ge_mr750/DCM2NIIX_regression_test_5.nii"),
    ],
)
def test_volumes_equal_those_of_dcm2niix(data: Path, series: str, truth: str) -> None:
    image = nib.load(data / truth)
    expected_XYZT = np.asanyarray(image.dataobj)
    volumes = whole_series(data / series)
    assert len(volumes) == expected_XYZT.shape[3]
    for index, volume in enumerate(volumes):
        assert (volume.run, volume.index) == (1, index)
        assert volume.tr_s == pytest.approx(float(image.header["pixdim"][4]), abs=1e-6)
        np.testing.assert_array_equal(volume.data, expected_XYZT[..., index])
        np.testing.assert_allclose(volume.affine, image.affine, atol=1e-4)  # float32 in the NIfTI


SETS = [
    ("trio_run155/dcm", (74, 74, 36), 155, 1.97, "uint16", True),
    ("siemens_ve11_multiband_mosaic", (86, 86, 51), 2, 1.3, "uint16", True),
    ("siemens_vd13_mosaic_order/ep2d_Asc_2", (64, 64, 36), 6, 3.2, "uint16", True),
    ("siemens_vd13_mosaic_order/ep2d_Asc_HF_10", (64, 64, 36), 6, 3.2, "uint16", True),
    ("pyneal/siemens_prisma_mosaic_3", (64, 64, 18), 3, 1.0, "uint16", True),
    ("siemens_xa30_enhanced", (64, 64, 33), 20, 1.0, "uint16", True),
    ("pyneal/ge_mr750_slices_54", (64, 64, 18), 3, 1.0, "int16", True),
    ("ge_mr750/mr_0004", (64, 64, 15), 10, 5.0, "int16", False),
    ("ge_mr750/mr_0005", (64, 64, 15), 10, 5.0, "int16", False),
    ("philips_elition_slices8", (96, 96, 63), 8, 1.259232421875, "float32", False),
    *((f"haxby2001/run-{run:03d}/bold.nii.gz", (40, 20, 1), 121, 2.5, "int16", False) for run in range(1, 10)),
    ("motion_truth/typical/bold.nii.gz", (120, 120, 78), 12, 1.5, "int16", False),
]


def test_no_set_is_left_out(data: Path) -> None:
    """Every folder below the data that holds volumes is in the table."""
    holding = {path.parent for path in data.rglob("*") if path.suffix in (".dcm", ".gz") or ".MRDC." in path.name}
    named = {data / name for name, *_ in SETS}
    assert holding == {path.parent if path.suffix == ".gz" else path for path in named}


@pytest.mark.parametrize(("series", "shape", "n", "tr_s", "dtype", "timed"), SETS)
def test_every_set_reads(
    data: Path, series: str, shape: tuple[int, int, int], n: int, tr_s: float, dtype: str, timed: bool
) -> None:
    found = opened(data / series)
    assert (found.n_volumes, found.shape, found.tr_s) == (n, shape, tr_s)
    volumes = whole_series(data / series)
    assert [volume.index for volume in volumes] == list(range(n))
    for volume in volumes:
        assert volume.data.dtype == dtype
        assert volume.data.flags.f_contiguous
        assert np.array_equal(volume.affine, volumes[0].affine)
        assert volume.data.max() > 100
        if timed:
            assert volume.slice_times_s is not None
            assert volume.slice_times_s.shape == (shape[2],)
            assert volume.slice_times_s.min() == 0
            assert tr_s / 2 < volume.slice_times_s.max() < tr_s
        else:
            assert volume.slice_times_s is None


@pytest.mark.parametrize(
    ("series", "tolerance_s"),
    [
        ("trio_run155/dcm", 0.011),  # the Trio's clock ticks at 2.5 ms, and TR and clock drift apart
        ("siemens_xa30_enhanced", 1e-6),
        ("siemens_vd13_mosaic_order/ep2d_Asc_2", 0.011),
        ("philips_elition_slices8", 0.011),
    ],
)
def test_the_acquired_clock_steps_by_the_tr(data: Path, series: str, tolerance_s: float) -> None:
    volumes = whole_series(data / series)
    clock_s = np.array([volume.acquired_s for volume in volumes], dtype=float)
    np.testing.assert_allclose(np.diff(clock_s), volumes[0].tr_s, atol=tolerance_s)


def test_acquired_is_a_date_where_there_is_one_and_unknown_where_all_volumes_say_the_same(data: Path) -> None:
    first = whole_series(data / "trio_run155" / "dcm")[0]
    assert first.acquired_s == pytest.approx(1487252661.965)  # 2017-02-16 13:44:21.965, taken for UTC
    assert whole_series(data / "ge_mr750" / "mr_0004")[0].acquired_s is None


def test_a_trio_volume_lies_where_the_template_of_its_run_lies(data: Path) -> None:
    (template,) = (data / "trio_run155").glob("fanon*.nii")
    image = nib.load(template)
    volume = whole_series(data / "trio_run155" / "dcm")[0]
    assert volume.shape == image.shape
    np.testing.assert_allclose(volume.affine, image.affine, atol=2e-3)  # a template from another series, same slab
    correlation = np.corrcoef(volume.data.ravel(), np.asanyarray(image.dataobj).ravel())[0, 1]
    assert correlation > 0.95


def test_both_slice_orders_show_the_same_head(data: Path) -> None:
    up = whole_series(data / "siemens_vd13_mosaic_order" / "ep2d_Asc_2")[0]
    down = whole_series(data / "siemens_vd13_mosaic_order" / "ep2d_Asc_HF_10")[0]
    assert up.affine[2, 2] > 0
    assert down.affine[2, 2] > 0
    same = np.corrcoef(up.data.ravel(), down.data.ravel())[0, 1]
    turned = np.corrcoef(up.data.ravel(), down.data[:, :, ::-1].ravel())[0, 1]
    assert same > turned + 0.2


def copies(source: Path, target: Path, names: dict[str, str]) -> Path:
    """Files of ``source`` under other names."""
    target.mkdir(exist_ok=True)
    for old, new in names.items():
        shutil.copy(source / old, target / new)
    return target


def trio(k: int) -> str:
    return f"001_000007_{k:06d}.dcm"


def test_order_is_that_of_the_instance_numbers_not_of_the_names(data: Path, tmp_path: Path) -> None:
    names = {trio(k): f"{chr(ord('z') - k)}.dcm" for k in range(1, 12)}
    folder = copies(data / "trio_run155" / "dcm", tmp_path, names)
    (folder / ".hidden.dcm").write_bytes(b"half a copy")
    (folder / "notes.txt").write_text("left beside the data")
    truth = whole_series(data / "trio_run155" / "dcm")
    for volume, expected in zip(read_series(folder), truth, strict=False):
        assert volume.index == expected.index
        np.testing.assert_array_equal(volume.data, expected.data)


def test_a_missing_volume_leaves_a_gap_in_the_indices(data: Path, tmp_path: Path) -> None:
    folder = copies(data / "trio_run155" / "dcm", tmp_path, {trio(k): trio(k) for k in (10, 11, 13)})
    series = open_series(folder)
    assert [volume.index for volume in series] == [0, 1, 3]
    assert series.n_volumes == 4


def test_a_doubled_volume_is_refused(data: Path, tmp_path: Path) -> None:
    folder = copies(data / "trio_run155" / "dcm", tmp_path, {trio(1): "Doe_1.dcm", trio(2): "Doe_2.dcm"})
    (folder / "Doe_3.dcm").write_bytes((folder / "Doe_2.dcm").read_bytes()[:-2] + b"\7\0")
    with pytest.raises(BadVolume, match=r"files 2 and 3 of 3") as caught:
        read_series(folder)
    assert caught.value.code == "series.duplicate"
    assert "Doe" not in str(caught.value)


def test_two_series_in_a_folder_are_refused(data: Path, tmp_path: Path) -> None:
    folder = copies(data / "trio_run155" / "dcm", tmp_path, {trio(1): "a.dcm"})
    copies(data / "pyneal" / "siemens_prisma_mosaic_3", folder, {"001_000013_000001.dcm": "b.dcm"})
    with pytest.raises(BadVolume) as caught:
        read_series(folder)
    assert caught.value.code == "series.several"


def test_a_missing_slice_is_an_incomplete_volume(data: Path, tmp_path: Path) -> None:
    source = data / "philips_elition_slices8"
    folder = copies(source, tmp_path, {path.name: path.name for path in source.iterdir()})
    (folder / "2101_0078.dcm").unlink()
    with pytest.raises(BadVolume, match="volume 2") as caught:
        read_series(folder)
    assert caught.value.code == "series.incomplete"


def test_the_order_of_slices_on_disk_does_not_matter(data: Path, tmp_path: Path) -> None:
    source = data / "ge_mr750" / "mr_0005"
    names = [path.name for path in sorted(source.iterdir())][:30]
    shuffled = np.random.default_rng(0).permutation(30)
    folder = copies(source, tmp_path, {name: f"{k}.dcm" for name, k in zip(names, shuffled, strict=True)})
    truth = whole_series(source)
    for volume, expected in zip(read_series(folder), truth, strict=False):
        np.testing.assert_array_equal(volume.data, expected.data)


def test_one_file_is_one_volume_where_it_holds_one(data: Path) -> None:
    volume = read_volume(data / "siemens_xa30_enhanced" / "0005.dcm", run=2, index=4)
    assert (volume.run, volume.index) == (2, 4)
    for path in (
        data / "ge_mr750" / "mr_0004" / "axial_epi_fmri_interleaved_i_to_s-00001.dcm",
        data / "haxby2001" / "run-001" / "bold.nii.gz",
    ):
        with pytest.raises(BadVolume, match="series"):
            read_volume(path, run=1, index=0)


def test_a_truncated_file_in_the_middle_of_a_series_is_named(data: Path, tmp_path: Path) -> None:
    folder = copies(data / "trio_run155" / "dcm", tmp_path, {trio(k): f"Doe_{k}.dcm" for k in (1, 2, 3)})
    whole = (folder / "Doe_2.dcm").read_bytes()
    (folder / "Doe_2.dcm").write_bytes(whole[:-1000])
    volumes = read_series(folder)
    assert next(volumes).index == 0
    with pytest.raises(BadVolume, match="file 2 of 3") as caught:
        next(volumes)
    assert caught.value.code == "dicom.truncated"
    assert caught.value.details["file"] == 2
    assert "Doe" not in str(caught.value)


def nifti(path: Path, shape: tuple[int, ...], tr_s: float | None = 1.5, unit: str = "sec", value: int = 0) -> Path:
    image = nib.Nifti1Image(np.full(shape, value, dtype=np.int16), np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", unit if tr_s is not None else None)
    if tr_s is not None:
        image.header["pixdim"][4] = tr_s
    image.to_filename(path)
    return path


def test_nifti_volumes_follow_the_numbers_in_their_names(tmp_path: Path) -> None:
    for k in (1, 2, 10):
        nifti(tmp_path / f"vol_{k}.nii{'.gz' if k == 2 else ''}", (3, 4, 5), value=k)
    assert [int(volume.data[0, 0, 0]) for volume in read_series(tmp_path)] == [1, 2, 10]


@pytest.mark.parametrize(("unit", "zoom"), [("sec", 1.97), ("msec", 1970.0), ("usec", 1970000.0)])
def test_the_tr_is_in_the_unit_that_the_header_names(tmp_path: Path, unit: str, zoom: float) -> None:
    assert open_series(nifti(tmp_path / "bold.nii", (3, 4, 5, 2), zoom, unit)).tr_s == 1.97


def test_a_file_without_a_tr_needs_one(tmp_path: Path) -> None:
    nifti(tmp_path / "vol.nii", (3, 4, 5), tr_s=None)
    with pytest.raises(BadVolume, match="tr_s") as caught:
        read_series(tmp_path)
    assert caught.value.code == "volume.tr"
    assert next(read_series(tmp_path, tr_s=2.0)).tr_s == 2.0
    assert read_volume(tmp_path / "vol.nii", run=1, index=0, tr_s=2.0).tr_s == 2.0


def test_volumes_of_another_shape_are_refused_when_they_come(tmp_path: Path) -> None:
    nifti(tmp_path / "1.nii", (3, 4, 5))
    nifti(tmp_path / "2.nii", (3, 4, 6))
    volumes = read_series(tmp_path)
    next(volumes)
    with pytest.raises(BadVolume) as caught:
        next(volumes)
    assert caught.value.code == "volume.shape_mismatch"


@pytest.mark.parametrize("names", [("1.nii", "2.nii"), ("1.nii", "2.dcm")])
def test_a_folder_with_two_runs_or_two_formats_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        nifti(tmp_path / "x.nii", (3, 4, 5, 2)).rename(tmp_path / name)
    with pytest.raises(BadVolume) as caught:
        read_series(tmp_path)
    assert caught.value.code == "series.several"


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_scaling_endianness_and_version(tmp_path: Path, image_class: type, big_endian: bool) -> None:
    header = image_class.header_class(endianness=">" if big_endian else "<")
    values = np.random.default_rng(0).normal(100, 20, (3, 4, 5, 2))
    header.set_data_dtype(np.int16)
    image = image_class(values, np.diag([2.0, 2, 2, 1]), header)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "bold.nii.gz")
    expected = nib.load(tmp_path / "bold.nii.gz").get_fdata()
    assert image.header["scl_slope"] != 1
    for index, volume in enumerate(read_series(tmp_path / "bold.nii.gz")):
        assert volume.data.dtype == np.float32
        np.testing.assert_allclose(volume.data, expected[..., index], rtol=1e-6)
