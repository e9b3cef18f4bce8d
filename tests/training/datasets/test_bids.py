"""BIDS derivatives of single-trial betas, in the forms that GLMsingle, nilearn and Mindsight leave."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindsight.errors import BadRequest
from support.source_files import AFFINE, MASK, SHAPE, betas_image, write_mask, write_nifti, write_table
from training.datasets.bids import BidsQuery, read_bids

IMAGES = ["pictures/dog.png", "pictures/cat.png", "pictures/dog.png", "pictures/tree.jpg"]


def func(folder: Path, subject: str = "01", session: str = "a") -> Path:
    return folder / f"sub-{subject}/ses-{session}/func"


def one_run(folder: Path, run: int, session: str = "a", subject: str = "01", task: str = "view") -> np.ndarray:
    stem = func(folder, subject, session) / f"sub-{subject}_ses-{session}_task-{task}_run-{run}_betas"
    data = betas_image(4, run)
    write_nifti(stem.with_name(stem.name + ".nii.gz"), data)
    write_table(stem.with_name(stem.name + ".tsv"), IMAGES)
    return data


def test_maps_with_a_table_beside_them(tmp_path: Path) -> None:
    write_mask(tmp_path)
    data = [one_run(tmp_path, run) for run in (1, 2, 10)]
    one_run(tmp_path, 3, task="rest")
    [subject] = read_bids(BidsQuery(tmp_path, task="view"))
    assert (subject.subject, len(subject), subject.voxels) == ("01", 12, int(MASK.sum()))
    assert subject.runs == (1,) * 4 + (2,) * 4 + (10,) * 4
    assert subject.images[:4] == ("dog", "cat", "dog", "tree")
    expected = np.concatenate([each[MASK].T for each in data])  # voxels in C order, as sessions have them
    np.testing.assert_array_equal(subject.betas.read(np.arange(12)), expected)


def test_subjects_and_sessions_are_found_by_name(tmp_path: Path) -> None:
    for subject, session in (("01", "a"), ("01", "b"), ("02", "a"), ("03", "a")):
        write_mask(tmp_path, subject, session)
        one_run(tmp_path, 1, session, subject)
    both = read_bids(BidsQuery(tmp_path, subjects=("01", "03")))
    assert [(each.subject, len(each), set(each.sessions)) for each in both] == [
        ("01", 8, {"a", "b"}), ("03", 4, {"a"}),
    ]  # fmt: skip
    [first] = read_bids(BidsQuery(tmp_path, subjects=("01",), session="b"))
    assert set(first.sessions) == {"b"}
    with pytest.raises(BadRequest, match=r"of subjects 09, session any, task any, got none") as raised:
        read_bids(BidsQuery(tmp_path, subjects=("09",)))
    assert raised.value.code == "dataset.none"


def test_one_map_for_each_trial_as_nilearn_writes_them(tmp_path: Path) -> None:
    """The conditions' numbers are the places of the trials in the raw data's events."""
    write_mask(tmp_path / "derivatives")
    data = betas_image(4, 1)
    for i in range(4):
        name = f"sub-01_ses-a_task-view_run-2_contrast-trial{i + 1:03d}_stat-effect_statmap.nii.gz"
        write_nifti(func(tmp_path / "derivatives") / name, data[..., i])
        other = name.replace("stat-effect", "stat-variance")
        write_nifti(func(tmp_path / "derivatives") / other, data[..., i] ** 2)
    func(tmp_path / "raw").mkdir(parents=True)
    write_table(func(tmp_path / "raw") / "sub-01_ses-a_task-view_run-2_events.tsv", IMAGES)
    [subject] = read_bids(BidsQuery(tmp_path / "derivatives", events=tmp_path / "raw"))
    assert subject.images == ("dog", "cat", "dog", "tree")
    assert subject.runs == (2, 2, 2, 2)
    np.testing.assert_array_equal(subject.betas.read(np.arange(4)), data[MASK].T)
    renamed = func(tmp_path / "derivatives") / "sub-01_ses-a_task-view_run-2_contrast-dog_stat-effect_statmap.nii.gz"
    write_nifti(renamed, data[..., 0])
    with pytest.raises(BadRequest, match="name the conditions trial001"):
        read_bids(BidsQuery(tmp_path / "derivatives", events=tmp_path / "raw"))


@pytest.mark.parametrize("matlab", [True, False])
def test_glmsingle_in_hdf5(tmp_path: Path, matlab: bool) -> None:
    write_mask(tmp_path)
    data = betas_image(4, 1)
    stem = func(tmp_path) / "sub-01_ses-a_task-view_betas"
    with h5py.File(stem.with_suffix(".mat" if matlab else ".h5"), "w") as file:
        file["modelmd" if matlab else "betasmd"] = data.transpose() if matlab else data
        if matlab:
            file["modelmd"].attrs["MATLAB_class"] = np.bytes_(b"single")
    rows = "".join(f"{name}\t{1 + i // 2}\n" for i, name in enumerate(IMAGES))
    stem.with_suffix(".tsv").write_text(f"stim_file\trun\n{rows}")
    [subject] = read_bids(BidsQuery(tmp_path))
    np.testing.assert_array_equal(subject.betas.read(np.arange(4)), data[MASK].T)
    assert subject.runs == (1, 1, 2, 2)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    func(tmp_path).mkdir(parents=True)
    (func(tmp_path) / "TYPED_FITHRF_GLMDENOISE_RR.npy").write_bytes(b"anything")
    with pytest.raises(BadRequest, match="without running code") as raised:
        read_bids(BidsQuery(tmp_path))
    assert raised.value.code == "dataset.format"


def test_maps_of_another_mask_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path)
    one_run(tmp_path, 1)
    moved = AFFINE.copy()
    moved[0, 3] = 4.0
    for mask, affine, got in ((MASK, moved, "in another place"), (np.ones((5, 4, 4), bool), AFFINE, "images of")):
        other = write_nifti(tmp_path / "other.nii.gz", mask.astype(np.uint8), affine)
        with pytest.raises(BadRequest, match=got) as raised:
            read_bids(BidsQuery(tmp_path, mask=other))
        assert raised.value.code == "dataset.mask"
    larger = MASK.copy()
    larger[0] = True
    write_nifti(func(tmp_path, "01", "b") / "sub-01_ses-b_desc-brain_mask.nii.gz", larger.astype(np.uint8))
    one_run(tmp_path, 1, "b")
    with pytest.raises(BadRequest, match="all sessions of subject 01 in one mask"):
        read_bids(BidsQuery(tmp_path))
    write_mask(tmp_path, "02")
    write_nifti(func(tmp_path, "02") / "sub-02_ses-a_desc-other_mask.nii.gz", MASK.astype(np.uint8))
    one_run(tmp_path, 1, subject="02")
    with pytest.raises(BadRequest, match="expected one mask of subject 02, session a, got 2"):
        read_bids(BidsQuery(tmp_path, subjects=("02",)))


def test_maps_without_their_trials_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path)
    one_run(tmp_path, 1)
    table = func(tmp_path) / "sub-01_ses-a_task-view_run-1_betas.tsv"
    write_table(table, IMAGES[:3])
    with pytest.raises(BadRequest, match=r"for each of the 4 maps in .*, got 3") as raised:
        read_bids(BidsQuery(tmp_path))
    assert raised.value.code == "dataset.half"
    table.unlink()
    with pytest.raises(BadRequest, match="which say what each trial showed, got 0"):
        read_bids(BidsQuery(tmp_path))


def test_an_image_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_mask(tmp_path)
    one_run(tmp_path, 1)
    path = func(tmp_path) / "sub-01_ses-a_task-view_run-1_betas.nii.gz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadRequest, match="copy it again"):
        read_bids(BidsQuery(tmp_path))
    assert MASK.shape == SHAPE
