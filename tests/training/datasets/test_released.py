"""The released layout, written small: rows, sessions, tests, and half a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mindsight.errors import BadRequest
from support.source_files import behaviour, write_released, write_tar
from training.datasets.normalise import normalised
from training.datasets.released import read_released

N = 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_released(tmp_path)
    return tmp_path


def test_each_trial_has_the_beta_of_its_row(tmp_path: Path) -> None:
    betas = write_released(tmp_path, sessions=3)
    [subject] = read_released(tmp_path, [1], n_images=N)
    assert len(subject) == 180
    assert subject.sessions == ("01",) * 60 + ("02",) * 60 + ("03",) * 60
    order = np.random.default_rng(0).permutation(180)  # also with a row asked for twice
    order[7] = order[3]
    np.testing.assert_array_equal(subject.betas.read(order), betas[order])
    assert sum(subject.fixed) == 30
    assert {image for image, fixed in zip(subject.images, subject.fixed, strict=True) if fixed} == {
        f"{i}" for i in range(70, 80)
    }
    assert max(subject.repeats) == 3


def test_one_hour_is_the_first_session_with_all_tests(folder: Path) -> None:
    [subject] = read_released(folder, [1], sessions=1, n_images=N)
    assert sum(not fixed for fixed in subject.fixed) == 50
    assert sum(subject.fixed) == 20
    training = {image for image, fixed in zip(subject.images, subject.fixed, strict=True) if not fixed}
    scored = normalised(subject, training)  # the second session has tests alone, which the file has scaled
    np.testing.assert_array_equal(scored.read(np.arange(70)), subject.betas.read(np.arange(70)))


def test_betas_that_are_not_z_scored_are_refused(folder: Path) -> None:
    with h5py.File(folder / "betas_all_subj01_fp32_renorm.hdf5", "r+") as file:
        file["betas"][:] = file["betas"][:] * 300 + 100
    [subject] = read_released(folder, [1], n_images=N)
    with pytest.raises(BadRequest, match=r"z-scored by session, got session 01 .*means of 99") as raised:
        normalised(subject, set(subject.images))
    assert raised.value.code == "dataset.scale"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def fewer_betas(folder: Path) -> None:
    path = folder / "betas_all_subj01_fp32_renorm.hdf5"
    with h5py.File(path) as file:
        betas = file["betas"][:100]
    with h5py.File(path, "w") as file:
        file["betas"] = betas


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / "wds/subj01/train/0.tar").unlink(), "expected the tars 0 to 0 of subject 1's sessions, got 1"),
        (lambda f: (f / "wds/subj01/new_test/0.tar").unlink(), "new_test/0.tar, which cannot be read"),
        (lambda f: cut(f / "wds/subj01/train/1.tar"), "train/1.tar, which cannot be read"),
        (lambda f: (f / "betas_all_subj01_fp32_renorm.hdf5").unlink(), "expected betas_all_subj01_fp32_renorm.hdf5"),
        (fewer_betas, "rows 0 to 99 in the tars of subject 1, 20 are not"),
        (
            lambda f: write_tar(f / "wds/subj01/train/1.tar", behaviour(np.arange(9), 2, 2, np.arange(60, 69))),
            "of this subject in the tars of subject 1, 9 are not",
        ),
        (
            lambda f: write_tar(f / "wds/subj01/train/1.tar", behaviour(np.arange(9), 1, 2, np.arange(9))),
            "each beta of subject 1 once",
        ),
    ],
)
def test_half_a_download_is_refused(folder: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(folder)
    with pytest.raises(BadRequest, match=r"download the files again") as raised:
        read_released(folder, [1], n_images=N)
    assert expected in str(raised.value)
    assert raised.value.code == "dataset.half"


def test_a_session_more_than_there_is_is_refused(folder: Path) -> None:
    with pytest.raises(BadRequest, match="expected the tars 0 to 4 of subject 1's sessions, got 0, 1"):
        read_released(folder, [1], sessions=5, n_images=N)
