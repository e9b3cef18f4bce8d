"""Slice times of every format that has them, on real files where there are any, read whole and live."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.transports import Expected
from mindsight.volume import Volume
from support.par_files import Pair, write_pair

ASCENDING_36 = [0.0, 0.075, 0.15, 0.2225, 0.2975, 0.3725]  # as dcm2niix states them for both slice orders
KNOWN = {
    "siemens_vd13_mosaic_order/ep2d_Asc_2": [*ASCENDING_36],
    "siemens_vd13_mosaic_order/ep2d_Asc_HF_10": [*ASCENDING_36],
    "trio_run155/dcm": [1.9225, 1.8675, 1.8125, 1.76],  # descending
    "siemens_ve11_multiband_mosaic": [0.0, 0.6775, 0.075, 0.7525, 0.15, 0.8275],
    "pyneal/siemens_prisma_mosaic_3": [0.49, 0.0, 0.5425, 0.055, 0.5975, 0.1075],
    "siemens_xa30_enhanced": [0.0, 0.535, 0.0875, 0.6225, 0.1775, 0.7125],
    "pyneal/ge_mr750_slices_54": [0.0, 0.5, 0.0555, 0.5555, 0.1111, 0.6111],
}


def live(folder: Path, n_files: int) -> list[Volume]:
    """The volumes of a series as a transport delivers them."""
    assembler = Assembler(Expected(), late_s=1.0)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()][:n_files]
    items = [item for path in files for item in assembler.add(Arrival(path.read_bytes(), 0.0), 0.0)]
    return [item for item in (*items, *assembler.finish()) if isinstance(item, Volume)]


@pytest.mark.parametrize("name", KNOWN)
def test_times_of_real_files(name: str, shared: Path) -> None:
    folder, known = shared / "data" / name, KNOWN[name]
    first = next(read_series(folder))
    assert first.slice_times_s is not None
    assert first.slice_times_s.shape == (first.shape[2],)
    np.testing.assert_allclose(first.slice_times_s[: len(known)], known, atol=1e-4)
    streamed = live(folder, 54)
    assert len(streamed) >= 2
    for volume in streamed:  # of GE the first too, whose own clock has not begun
        assert volume.slice_times_s is not None
        np.testing.assert_allclose(volume.slice_times_s, first.slice_times_s, atol=0.003)


@pytest.mark.parametrize(("name", "factor"), [("siemens_ve11_multiband_mosaic", 3), ("siemens_xa30_enhanced", 3)])
def test_multiband_slices_share_their_times(name: str, factor: int, shared: Path) -> None:
    first = next(read_series(shared / "data" / name))
    assert first.slice_times_s is not None
    assert first.shape[2] / len(np.unique(np.round(first.slice_times_s, 4))) == pytest.approx(factor, abs=0.01)


def test_times_follow_the_slices_that_are_turned(shared: Path) -> None:
    """The tiles of this series run from head to foot, and so do its header's times."""
    path = sorted((shared / "data" / "siemens_vd13_mosaic_order" / "ep2d_Asc_HF_10").iterdir())[0]
    stated = read_dicom(path.read_bytes(), header_only=True).csa_times_ms
    assert stated is not None
    first = next(read_series(path.parent))
    np.testing.assert_allclose(first.slice_times_s, np.array(stated[::-1]) / 1000, atol=1e-6)


@pytest.mark.parametrize("name", ["ge_mr750/mr_0004", "philips_elition_slices8"])
def test_what_files_do_not_state_is_reported(name: str, shared: Path) -> None:
    series = open_series(shared / "data" / name)
    assert next(iter(series)).slice_times_s is None
    assert any("slice times are unknown" in note for note in series.notes)


def test_par_files_have_none_and_it_is_reported(tmp_path: Path) -> None:
    series = open_series(write_pair(tmp_path / "a.par", Pair()))
    assert all(volume.slice_times_s is None for volume in series)
    assert any("slice times are unknown" in note for note in series.notes)


def nifti(path: Path, **header: float) -> Path:
    image = nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm", "msec" if header else "sec")
    image.header["pixdim"][4] = 1800.0 if header else 1.8
    image.header.set_dim_info(slice=2)
    for name, value in header.items():
        image.header[name] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize(
    ("code", "order"),
    [(1, [0, 1, 2, 3, 4, 5]), (2, [5, 4, 3, 2, 1, 0]), (3, [0, 3, 1, 4, 2, 5]), (5, [3, 0, 4, 1, 5, 2])],
)
def test_those_of_a_nifti_header(code: int, order: list[int], tmp_path: Path) -> None:
    path = nifti(tmp_path / "bold.nii", slice_code=code, slice_duration=300.0, slice_end=5)
    for volume in read_series(path):
        np.testing.assert_allclose(volume.slice_times_s, np.array(order) * 0.3)


TIMES = [0.0, 0.9, 0.3, 1.2, 0.6, 1.5]


@pytest.mark.parametrize("name", ["sub-1_bold.nii", "sub-1_bold.nii.gz"])
@pytest.mark.parametrize("direction", [None, "k", "k-"])
def test_those_of_the_file_beside(name: str, direction: str | None, tmp_path: Path) -> None:
    stated = {"SliceTiming": TIMES, "RepetitionTime": 1.8, "PatientName": "Doe"}
    if direction:
        stated["SliceEncodingDirection"] = direction
    (tmp_path / "sub-1_bold.json").write_text(json.dumps(stated))
    for volume in read_series(nifti(tmp_path / name)):
        np.testing.assert_allclose(volume.slice_times_s, TIMES[::-1] if direction == "k-" else TIMES)
        assert volume.tr_s == 1.8


@pytest.mark.parametrize(
    "stated",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * 2_000_000,
        json.dumps({"SliceTiming": TIMES[:5]}).encode(),
        json.dumps({"SliceTiming": [-1, *TIMES[1:]]}).encode(),
        json.dumps({"SliceTiming": [float("nan"), *TIMES[1:]]}).encode(),
        json.dumps({"SliceTiming": [*TIMES[:5], 1.9], "RepetitionTime": 1.8}).encode(),
        json.dumps({"SliceTiming": [10 * t for t in TIMES]}).encode(),  # beyond the image's own TR
        json.dumps({"SliceTiming": ["0", *TIMES[1:]]}).encode(),
        json.dumps({"SliceTiming": [10**400, *TIMES[1:]], "RepetitionTime": 10**400}).encode(),
        json.dumps({"SliceTiming": TIMES, "SliceEncodingDirection": "i"}).encode(),
        json.dumps({"SliceTiming": {"a": 1}, "RepetitionTime": [2], "MissingVolumes": ["x"]}).encode(),
    ],
)
def test_a_file_beside_that_makes_no_sense_is_ignored(stated: bytes, tmp_path: Path) -> None:
    (tmp_path / "bold.json").write_bytes(stated)
    volumes = list(read_series(nifti(tmp_path / "bold.nii")))
    assert [(volume.index, volume.tr_s) for volume in volumes] == [(0, 1.8), (1, 1.8)]
    assert all(volume.slice_times_s is None for volume in volumes)


def test_a_file_beside_that_calls_all_volumes_missing(tmp_path: Path) -> None:
    (tmp_path / "bold.json").write_text('{"MissingVolumes": [0, 1, 7]}')
    with pytest.raises(BadVolume) as caught:
        read_series(nifti(tmp_path / "bold.nii"))
    assert caught.value.code == "nifti.empty"
    (tmp_path / "bold.json").write_text('{"MissingVolumes": [0, true, -1]}')
    assert [volume.index for volume in read_series(tmp_path / "bold.nii")] == [1]
