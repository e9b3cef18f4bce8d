"""NIfTI as converters and other programs leave it: echo times, moments of volumes, names, formats that are not read."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.formats.file_names import indices


def image(path: Path, n_volumes: int = 5, value: int = 0, **beside: object) -> None:
    data = value + np.arange(2 * 3 * 4 * n_volumes, dtype=np.int16).reshape(2, 3, 4, n_volumes)
    nifti = nib.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0]))
    nifti.header.set_zooms((3.0, 3.0, 3.0, 2.0))
    nifti.header.set_xyzt_units("mm", "sec")
    nib.save(nifti, path)
    if beside:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(beside))


@pytest.mark.parametrize(
    "names", [("r_e1.nii", "r_e2.nii"), ("sub-1_task-x_echo-1_bold.nii", "sub-1_task-x_echo-2_bold.nii")]
)
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_echoes_are_combined_by_the_times_of_their_sidecars(
    names: tuple[str, str], unit: float, tmp_path: Path
) -> None:
    for k, name in enumerate(names):
        image(tmp_path / name, value=500 - 200 * k, EchoTime=unit * (0.012 + 0.02 * k))
    series = open_series(tmp_path, echo="combine")
    assert any("12 ms" in note and "32 ms" in note for note in series.notes)
    first, second = (list(open_series(tmp_path, echo=echo)) for echo in (1, 2))
    for one, other, both in zip(first, second, series, strict=True):
        assert (both.data < one.data).all()
        assert (both.data > other.data).all()


def test_echoes_without_times_are_not_combined(tmp_path: Path) -> None:
    image(tmp_path / "r_e1.nii")
    image(tmp_path / "r_e2.nii", EchoTime=0)
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path, echo="combine")
    assert caught.value.code == "echoes.no_times"


@pytest.mark.parametrize(
    ("moments_s", "tr_s", "words"),
    [
        ([0, 2, 4, 6, 8], 2.0, None),
        ([0, 10, 20, 30, 40], 10.0, "TR 10 s by the clock"),  # sparse sampling
        ([0, 2, 4, 16, 18], 2.0, "10 s before volume 3"),
    ],
)
def test_the_moments_of_volumes_are_their_clock(
    moments_s: list[float], tr_s: float, words: str | None, tmp_path: Path
) -> None:
    image(tmp_path / "b.nii", VolumeTiming=moments_s)
    series = open_series(tmp_path)
    assert series.tr_s == tr_s
    assert series.notes == () if words is None else words in " ".join(series.notes)
    with pytest.raises(BadVolume, match="as declared"):
        open_series(tmp_path, tr_s=3.0)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (("ep2d_bold_5.nii", "ep2d_bold_MoCo_6.nii", "ep2d_bold_SBRef_4.nii"), ("realigned", "reference")),  # dcm2niix
        (("sub-1_bold.nii", "sub-1_desc-preproc_bold.nii", "sub-1_boldref.nii"), ("derived", "reference")),  # fMRIPrep
        (("f.nii", "f_mcf.nii", "f_mcf_mean_reg.nii"), ("realigned",)),  # FSL
    ],
)
def test_what_programs_put_beside_the_run_is_left(
    names: tuple[str, ...], left: tuple[str, ...], tmp_path: Path
) -> None:
    for k, name in enumerate(names):
        image(tmp_path / name, value=100 * k)
    series = open_series(tmp_path)
    assert int(next(iter(series)).data.min()) == 0
    assert all(word in " ".join(series.notes) for word in left)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ([0, 1, 2, 10, 11], [0, 1, 2, 10, 11]),  # more are gone than there are
        ([1, 2, 90], [0, 1, 89]),
        ([12, 830, 1644, 2471], [0, 1, 2, 3]),  # they count something else
        ([1, 5, 9, 17], [0, 1, 2, 4]),
    ],
)
def test_gaps_however_wide(numbers: list[int], found: list[int]) -> None:
    assert list(indices(numbers)[0].values()) == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run.img", r"\.hdr/\.img"),
        ("run+orig.BRIK.gz", "3dAFNItoNIFTI"),
        ("run.mgz", "FreeSurfer"),
        ("run.nii.bz2", "gzip"),
        ("run.zip", "unpack"),
    ],
)
def test_formats_that_are_not_read_are_named(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\1" * 400)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(BadVolume, match=words):
            open_series(path)


def test_a_folder_of_folders_and_no_path_at_all(tmp_path: Path) -> None:
    (tmp_path / "volume1").mkdir()
    with pytest.raises(BadVolume, match="but folders"):
        open_series(tmp_path)
    with pytest.raises(BadVolume, match="got neither; check the path"):
        open_series(tmp_path / "nothing")
