"""NIfTI files beside one another: gaps in their numbers, what SPM, FSL and AFNI made of them, echoes, masks."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.recording import open_run

SHAPE = (4, 5, 3)


def write(folder: Path, name: str, value: float, n_volumes: int | None = None) -> None:
    """A file whose voxels are ``value``, plus the place in time."""
    data = np.full(SHAPE, value, np.float32)
    if n_volumes is not None:
        data = np.stack([data + k for k in range(n_volumes)], -1)
    image = nib.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if n_volumes is not None:
        image.header["pixdim"][4] = 2.0
    nib.save(image, folder / name)


def read(folder: Path, **given: object) -> tuple[list[float], list[int], str]:
    """Values and indices of the volumes, and what was noted."""
    series = open_series(folder, tr_s=2.0, **given)
    volumes = list(series)
    assert not any(name in note for note in series.notes for name in ("Doe", ".nii"))
    return (
        [float(volume.data[0, 0, 0]) for volume in volumes],
        [volume.index for volume in volumes],
        "; ".join(series.notes),
    )


@pytest.mark.parametrize(
    ("names", "indices"),
    [
        (["Doe_{}.nii", 0, 1, 3, 4], [0, 1, 3, 4]),
        (["Doe-{:05d}.nii.gz", 7, 8, 11], [0, 1, 4]),
        (["fDoe-0007-{0:05d}-{0:06d}-01.nii", 1, 2, 4], [0, 1, 3]),
        (["fDoe-0007-00001-{:06d}-01.nii", 1, 34, 100, 133], [0, 1, 3, 4]),  # numbered by slices
        (["Doe_{}_3mm.nii", 1, 2, 4], [0, 1, 3]),
        (["run2_{}.nii", 9, 10, 12], [0, 1, 3]),
    ],
)
def test_a_gap_in_the_names_is_a_gap_in_the_run(names: list, indices: list[int], tmp_path: Path) -> None:
    for number in names[1:]:
        write(tmp_path, names[0].format(number), number)
    values, found, note = read(tmp_path)
    assert values == names[1:]
    assert found == indices
    n_missing = indices[-1] + 1 - len(indices)
    assert note.startswith(f"{n_missing} volume")
    assert "missing" in note
    assert open_series(tmp_path, tr_s=2.0).n_volumes == indices[-1] + 1


def test_times_in_names_are_no_count(tmp_path: Path) -> None:
    for k, number in enumerate((101058, 101100, 101102, 101201)):
        write(tmp_path, f"Doe_20260101_{number}.nii", k)
    values, indices, note = read(tmp_path)
    assert (values, indices) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert "do not count volumes" in note


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("r", "resliced"),
        ("a", "slice-time corrected"),
        ("ra", "resliced"),
        ("swra", "smoothed"),
        ("s6", "smoothed"),
        ("u", "unwarped"),
        ("mean", "mean"),
        ("wr", "normalised"),
    ],
)
@pytest.mark.parametrize("four", [False, True])
def test_what_spm_made_is_left(prefix: str, kind: str, four: bool, tmp_path: Path) -> None:
    for k in range(1 if four else 3):
        for before, value in (("", 0), (prefix, 100)):
            write(tmp_path, f"{before}fDoe_{k}.nii", value + k, 3 if four else None)
    values, _, note = read(tmp_path)
    assert values == [0, 1, 2]
    assert f"left out {1 if four else 3} {kind} image" in note


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("_mcf", "realigned"),
        ("_st", "slice-time corrected"),
        ("_mean", "mean"),
        ("_st_mcf", "realigned"),
        (".volreg", "realigned"),
        (".tshift", "slice-time corrected"),
        ("_brain_mask", "mask"),
    ],
)
def test_what_fsl_and_afni_made_is_left(suffix: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path, "Doe_bold.nii.gz", 0, 3)
    write(tmp_path, f"Doe_bold{suffix}.nii.gz", 100, 3)
    values, _, note = read(tmp_path)
    assert values == [0, 1, 2]
    assert f"left out 1 {kind} image" in note


def test_of_processed_files_alone_the_least_processed_is_the_run(tmp_path: Path) -> None:
    write(tmp_path, "pb01.Doe.r01.tshift.nii", 0, 3)
    write(tmp_path, "pb02.Doe.r01.volreg.nii", 100, 3)
    assert read(tmp_path)[0] == [0, 1, 2]
    other = tmp_path / "other"
    other.mkdir()
    for k in range(3):
        write(other, f"rfDoe_{k}.nii", k)
    write(other, "meanfDoe_0.nii", 100)
    values, _, note = read(other)
    assert values == [0, 1, 2]
    assert "left out 1 mean image" in note


def test_masks_and_anatomicals_beside_a_run_are_left(tmp_path: Path) -> None:
    write(tmp_path, "Doe_bold.nii.gz", 0, 3)
    for name in ("mask", "Doe_T1w", "anything", "Doe_sbref"):
        write(tmp_path, f"{name}.nii.gz", 100)
    values, _, note = read(tmp_path)
    assert values == [0, 1, 2]
    for kind in ("1 mask image", "1 anatomical image", "1 single image", "1 reference image"):
        assert kind in note


def test_packed_and_not_is_one_run_and_two_runs_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "Doe.nii.gz", 0, 3)
    write(tmp_path, "Doe.nii", 0, 3)
    values, _, note = read(tmp_path)
    assert values == [0, 1, 2]
    assert "left out 1 copies" in note
    write(tmp_path, "Doe.nii", 0, 4)
    with pytest.raises(BadVolume, match="several runs"):
        read(tmp_path)


@pytest.mark.parametrize(
    "names", [["run-1_{}.nii", "run-2_{}.nii"], ["a{}.nii", "b{}.nii"], ["Doe_{}.nii", "Roe_{}.nii"]]
)
def test_runs_that_differ_in_more_than_the_number_are_several(names: list[str], tmp_path: Path) -> None:
    for k in range(3):
        for name in names:
            write(tmp_path, name.format(k), k)
    with pytest.raises(BadVolume, match="several runs"):
        read(tmp_path)


@pytest.mark.parametrize(
    "pattern",
    [
        "sub-1_task-rest_echo-{}_bold.nii.gz",
        "Doe_e{}.nii",
        "pb00.Doe.r01.e0{}.tcat.nii",
    ],
)
def test_echoes_are_recognised_by_names(pattern: str, tmp_path: Path) -> None:
    for echo in (1, 2, 3):
        write(tmp_path, pattern.format(echo), 100 * echo, 4)
    values, _, note = read(tmp_path)
    assert values == [100, 101, 102, 103]
    assert "chose echo 1; left out echo 2 and echo 3" in note
    assert read(tmp_path, echo=3)[0] == [300, 301, 302, 303]
    with pytest.raises(BadVolume, match="echo time"):
        read(tmp_path, echo="combine")


def test_echoes_of_single_volumes_as_spm_names_them(tmp_path: Path) -> None:
    for k in (1, 2, 4):
        for echo in (1, 2):
            write(tmp_path, f"fDoe-0007-{k:05d}-{k:06d}-{echo:02d}.nii", 100 * echo + k)
    values, indices, _ = read(tmp_path, echo=2)
    assert values == [201, 202, 204]
    assert indices == [0, 1, 3]


def test_a_run_that_was_stopped(tmp_path: Path) -> None:
    write(tmp_path, "bold.nii", 0, 4)
    whole = (tmp_path / "bold.nii").read_bytes()
    (tmp_path / "bold.nii").write_bytes(whole[:-30])
    run = open_run(tmp_path)
    assert [volume.index for volume in run.volumes()] == [0, 1, 2]
    assert run.n_volumes == 3
    assert any("left out the last volume" in note for note in run.series.notes)
    (tmp_path / "bold.nii").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadVolume):
        list(open_run(tmp_path).volumes())
