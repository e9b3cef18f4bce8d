"""An archive is read back as it was written: trials, results, reconstructions, betas."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mindsight.archive import write_archive
from mindsight.archive.read import is_archive, read_final_betas, read_session
from mindsight.archive.records import ArchivedSession
from mindsight.errors import BadRequest
from support.archive_example import make_session, picture


def with_whole_results(session: ArchivedSession) -> ArchivedSession:
    """The example's results with the wire's own under ``result``, as the service archives them."""
    for result in session.results:
        result.details["result"] = {"confidence": result.confidence, "pool_size": 40}  # type: ignore[index]
    return session


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read") / "archive"
    write_archive(with_whole_results(make_session()), folder)
    return folder


def test_trials_are_those_with_a_number_and_name_their_image(archive: Path) -> None:
    trials = read_session(archive).trials
    assert [trial.key for trial in trials] == [(run, trial) for run in (1, 2) for trial in (1, 2, 3)]
    assert [trial.label for trial in trials[:3]] == ["tree", None, "beach"]
    first, second, third = trials[:3]
    assert first.image is not None
    assert third.image is not None
    assert first.image.read_bytes() == picture(0)
    assert third.image.read_bytes() == picture(2)
    assert second.image is None  # named by a file that was not archived


def test_results_and_reconstructions_are_found_by_run_trial_and_stage(archive: Path) -> None:
    session = read_session(archive)
    assert set(session.results) == {(r, t, stage) for r in (1, 2) for t in (1, 3) for stage in ("fast", "final")}
    assert session.results[2, 3, "final"] == {"confidence": 0.75, "pool_size": 40}
    assert set(session.reconstructions) == {(r, t, "final") for r in (1, 2) for t in (1, 3)}
    assert session.reconstructions[1, 3, "final"].read_bytes() == picture(4)


def test_final_betas_come_with_the_statistics_of_their_run(archive: Path) -> None:
    betas = read_final_betas(archive)
    n_voxels = int(make_session().mask_XYZ.sum())
    assert set(betas) == {(run, trial) for run in (1, 2) for trial in (1, 2, 3)}
    for (run, trial), beta in betas.items():
        np.testing.assert_array_equal(beta.beta_V, np.full(n_voxels, 100 * run + trial, np.float32))
        np.testing.assert_allclose(beta.mean_V, 100 * run + 2)
        np.testing.assert_allclose(beta.std_V, np.std([1, 2, 3]), rtol=1e-6)


def test_another_folder_is_no_archive(archive: Path, tmp_path: Path) -> None:
    assert is_archive(archive)
    assert not is_archive(tmp_path)
    with pytest.raises(BadRequest, match="got 0 tables of results") as error:
        read_session(tmp_path)
    assert error.value.code == "archive.answers"


def test_a_line_that_is_no_result_is_named(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive, tmp_path / "archive")
    (table,) = (tmp_path / "archive").rglob("*_results.jsonl")
    first = table.read_text().splitlines()[0]
    for line in ("{", "3", '{"run": 1, "trial": 1, "stage": "fast"}'):
        table.write_text(f"{first}\n{line}\n")
        with pytest.raises(BadRequest, match="a result in line 2 of") as error:
            read_session(tmp_path / "archive")
        assert error.value.code == "archive.answers"
