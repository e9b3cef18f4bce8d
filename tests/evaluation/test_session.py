"""A session decoded to labels is evaluated as every other: by stage, over its trials, by label, with its drift."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from mindsight import assets
from mindsight.archive import (
    ArchivedEvent,
    ArchivedRegistration,
    ArchivedResult,
    ArchivedRun,
    ArchivedSession,
    write_archive,
)
from mindsight.cli import app
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.drift import drift_of
from mindsight.evaluation.from_session import SessionEvaluation
from mindsight.evaluation.run import evaluate_archive
from mindsight.events import RunEvent
from mindsight.glm import Statistics
from mindsight.stages import Stage
from mindsight.volume import Volume
from support.linear_bundle import N_VOXELS, linear_bundle

LABELS = ("cat", "face", "house", "shoe")
N_TRIALS, SHAPE = 20, (5, 4, 4)
STAGES: tuple[Stage, ...] = ("fast", "final")
SHIFT, GAIN = 1.5, 1.4  # of the betas of the second run


def volumes(run: int) -> Iterator[Volume]:
    for index in range(3):
        yield Volume(np.zeros(SHAPE, np.int16), np.eye(4), 1.0, run, index)


def shown(run: int) -> list[str]:
    return [LABELS[(trial + run) % len(LABELS)] for trial in range(N_TRIALS)]


def betas_of(run: int) -> NDArray[np.float32]:
    """Of a run that is at home, and of one that has drifted."""
    rng = np.random.default_rng(run)
    own_KV = rng.standard_normal((N_TRIALS, N_VOXELS))
    return (own_KV if run == 1 else GAIN * own_KV + SHIFT).astype(np.float32)


def guess(run: int, trial: int, stage: Stage) -> tuple[str, float]:
    """Right in all final results but one in four, in fast ones as by chance; cats are taken for faces."""
    truth = shown(run)[trial - 1]
    if stage == "fast":
        return LABELS[trial % len(LABELS)], 0.3
    return ("face", 0.6) if truth == "cat" else (truth, 0.8)


def archived(run: int) -> ArchivedRun:
    return ArchivedRun(
        run=run, task="haxby", tr_s=1.0, n_volumes=3, volumes=volumes(run),
        events=[
            ArchivedEvent(RunEvent(4.0 * trial, 3.0, label), trial) for trial, label in enumerate(shown(run), 1)
        ],
        motion_T6=np.zeros((3, 6)), fd_mm_T=np.zeros(3), dvars_percent_T=np.zeros(3), censored_T=np.zeros(3, bool),
        registration=ArchivedRegistration(
            np.eye(4), {"how": "registered", "displacement_mm": 4.25 * run, "coverage": 0.99, "unexplained": 0.03,
                        "text": "4.2 mm from the calibration"},
        ),
        betas={(trial, "final"): beta_V for trial, beta_V in enumerate(betas_of(run), 1)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Archive and bundle."""
    folder = tmp_path_factory.mktemp("visit")
    bundle = linear_bundle().save(folder / "bundle")
    results = []
    for run in (1, 2):
        for trial in range(1, N_TRIALS + 1):
            for stage in STAGES:
                first, confidence = guess(run, trial, stage)
                ranked = [first, *(label for label in LABELS if label != first)]
                result = {
                    "candidates": [{"id": label, "score": -k} for k, label in enumerate(ranked)],
                    "confidence": confidence, "pool_size": len(LABELS), "normalised_by": "run",
                }  # fmt: skip
                results.append(ArchivedResult(run, trial, stage, confidence, details={"result": result}))
    session = ArchivedSession(
        subject="x", session="2", runs=[archived(run) for run in (1, 2)],
        mask_XYZ=bundle.space.mask_XYZ, affine=np.eye(4), results=results, provenance={"models": [bundle.digest]},
    )  # fmt: skip
    write_archive(session, folder / "archive")
    return folder / "archive", folder / "bundle"


@pytest.fixture(scope="module")
def evaluated(visit: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """What the command wrote and printed."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = CliRunner().invoke(app, ["evaluate", str(visit[0]), "--bundle", str(visit[1]), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, json.loads((out / "evaluation.json").read_text()), done.output


def test_accuracy_by_stage_has_chance_n_and_a_control(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    live = {one["title"]: one for one in evaluated[1]["live"]}
    final = live["final: first candidate"]
    assert (final["hits"], final["n"], final["chance"]) == (30, 40, 0.25)
    assert final["interval_95"][0] < 0.75 < final["interval_95"][1]
    assert final["mean_confidence"] == pytest.approx(0.75)
    control = live["final: compared with other trials' images"]
    assert control["control"]
    assert evaluated[1]["leaks"] == []
    assert "30 of 40" in evaluated[2]
    assert "published" not in evaluated[2]


def test_confusion_reliability_and_course_are_those_of_the_results(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    held = evaluated[1]
    assert held["confusion"]["labels"] == list(LABELS)
    counts = np.array(held["confusion"]["shown_by_first_candidate"])
    np.testing.assert_array_equal(counts, [[0, 10, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]])
    bins = held["reliability"]["final"]["bins"]
    assert [one["n"] for one in bins] == [8] * 5
    assert (bins[0]["stated"], bins[0]["value"]) == (pytest.approx(0.6), 0.0)
    assert (bins[-1]["stated"], bins[-1]["value"]) == (pytest.approx(0.8), 1.0)
    assert [one["n"] for one in held["over_trials"]["final"]] == [8] * 5
    assert sum(one["hits"] for one in held["over_trials"]["final"]) == 30
    assert [one["n"] for one in held["by_trial_of_the_run"]] == [12, 18, 10] * 2
    assert "cat" in evaluated[2]


def test_registration_and_drift_are_in_the_report(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    out, held, printed = evaluated
    assert [place["displacement_mm"] for place in held["registrations"]] == [4.25, 8.5]
    home, away = held["drift_since_calibration"]
    assert home["beyond_expected"] < 0.1
    assert away["beyond_expected"] == pytest.approx(SHIFT, abs=0.15)
    assert away["spread"] == pytest.approx(GAIN, abs=0.15)
    assert held["normalised_by"] == {"run": 80}
    page = (out / "evaluation.html").read_text()
    for part in ("Confusion matrix, final", "Registration of each run", "Drift of the betas", "8.50 mm", "<svg"):
        assert part in page
    assert "run 2: the betas' means are" in printed
    assert "http" not in page


def test_what_a_session_of_labels_has_no_use_for_is_refused(visit: tuple[Path, Path], tmp_path: Path) -> None:
    archive, _ = visit
    without = evaluate_archive(archive, tmp_path / "out")
    assert isinstance(without, SessionEvaluation)
    assert without.summary.drift == ()
    with pytest.raises(BadRequest, match="no reconstructions"):
        evaluate_archive(archive, tmp_path / "out", generator=assets.GENERATOR)
    with pytest.raises(ModelMismatch) as raised:
        evaluate_archive(archive, tmp_path / "out", bundle=assets.BUNDLE)
    assert raised.value.code == "archive.bundle"


def test_independent_betas_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    calibrated = Statistics(rng.normal(0, 200**-0.5, 3000).astype(np.float32), np.ones(3000, np.float32), 200)
    betas_KV = rng.standard_normal((30, 3000))
    [found] = drift_of({1: betas_KV}, calibrated)
    assert found.shift == pytest.approx(found.expected_shift, abs=0.01)
    assert found.spread == pytest.approx(1.0, abs=0.02)
    assert drift_of({1: betas_KV[:3]}, calibrated) == ()
