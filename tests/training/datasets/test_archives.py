"""Trials of archived sessions, as the archive's own writer leaves them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.archive import write_archive
from mindsight.errors import BadRequest
from support.archive_example import digest, make_session, picture
from training.datasets.archives import read_archive, read_archives


def session(complete: bool = True, **changes: object) -> object:
    """The example; complete: trial 2 of each run, whose image was not archived, names a candidate."""
    made = make_session(**changes)
    if complete:
        runs = [
            replace(run, events=[replace(e, candidate="house") if e.trial == 2 else e for e in run.events])
            for run in made.runs
        ]
        made = replace(made, runs=runs)
    for result in made.results:
        result.details["result"] = {"confidence": result.confidence, "pool_size": 40}  # type: ignore[index]
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "first"
    write_archive(session(), folder)  # type: ignore[arg-type]
    return folder


def test_final_betas_with_what_was_shown(archive: Path) -> None:
    trials = read_archive(archive)
    assert trials.subject == "S7f3a"
    assert set(trials.sessions) == {"2026pilot"}
    beach, tree = digest(picture(2)), digest(picture(0))
    assert dict(zip([101, 102, 103], trials.images[:3], strict=True)) == {101: tree, 102: "house", 103: beach}
    assert trials.runs == (1, 1, 1, 2, 2, 2)
    assert trials.repeats == (1, 1, 1, 2, 2, 2)
    expected = np.array([101, 102, 103, 201, 202, 203], np.float32)[:, None] * np.ones(trials.voxels, np.float32)
    np.testing.assert_array_equal(trials.betas.read(np.arange(6)), expected)


def test_sessions_of_a_subject_are_joined_and_masks_compared(archive: Path, tmp_path: Path) -> None:
    write_archive(session(session="2026_second"), tmp_path / "second")  # type: ignore[arg-type]
    [both] = read_archives([tmp_path / "second", archive])
    assert both.sessions == ("2026pilot",) * 6 + ("2026second",) * 6
    mask_XYZ = make_session().mask_XYZ.copy()
    mask_XYZ = np.roll(mask_XYZ, 1, axis=0)
    write_archive(session(session="third", mask_XYZ=mask_XYZ), tmp_path / "third")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="all sessions of subject S7f3a in one mask") as raised:
        read_archives([archive, tmp_path / "third"])
    assert raised.value.code == "dataset.mask"


def test_half_an_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive, tmp_path / "half")
    for path in (tmp_path / "half/derivatives").rglob("*_run-2_desc-final_stat-effect_statmap.*"):
        path.unlink()
    with pytest.raises(BadRequest, match="got none of run 2: archive the session again") as raised:
        read_archive(tmp_path / "half")
    assert raised.value.code == "dataset.half"
    for name in ("desc-decoder_mask.nii.gz", "run-1_desc-final_stat-effect_statmap.nii.gz"):
        shutil.rmtree(tmp_path / "half")
        shutil.copytree(archive, tmp_path / "half")
        [path] = (tmp_path / "half/derivatives").rglob(f"*_{name}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(BadRequest, match="which cannot be read") as raised:
            read_archive(tmp_path / "half")
        assert raised.value.code == "dataset.half"
    with pytest.raises(BadRequest, match="none is none"):
        read_archive(tmp_path / "none")
    write_archive(session(complete=False), tmp_path / "unknown")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="trial 2 of run 1 has neither a candidate nor an image") as raised:
        read_archive(tmp_path / "unknown")
    assert raised.value.code == "dataset.images"
