"""Confidence by stage and by the betas of the run so far."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.retrieval import Calibration, StageTrials, fit_stages, softmax

COMMON = Calibration(temperature=0.1, null_confidence=0.3, log_loss=1.0, n=10)
NULL_MN = np.random.default_rng(1).normal(0, 0.1, (300, 20))


def drawn(temperature: float, exponent: float, k: int, seed: int = 0) -> StageTrials:
    """Truths drawn with the probabilities that the scores mean after each number of betas."""
    rng = np.random.default_rng(seed)
    n_run_K = rng.integers(1, 31, k)
    scores_KN = rng.uniform(-1, 1, (k, 20))
    truth = [
        rng.choice(20, p=softmax(scores_N, temperature * n**-exponent))
        for scores_N, n in zip(scores_KN, n_run_K.astype(float), strict=True)
    ]
    return StageTrials(scores_KN, np.eye(20, dtype=bool)[truth], n_run_K)


def stated_and_observed(calibration: Calibration, trials: StageTrials, rows: NDArray[np.bool_]) -> tuple[float, float]:
    stated, hits = [], []
    for k in np.flatnonzero(rows):
        probabilities_N = calibration.at("fast", int(trials.n_run_K[k])).probabilities(trials.scores_KN[k])
        stated.append(probabilities_N.max())
        hits.append(trials.right_KN[k, probabilities_N.argmax()])
    return float(np.mean(stated)), float(np.mean(hits))


def test_temperature_and_exponent_are_found_again_and_confidence_holds_early_and_late() -> None:
    found = fit_stages(COMMON, {"fast": drawn(0.6, 0.5, 3000)}, NULL_MN)
    assert found.stages["fast"].temperature == pytest.approx(0.6, rel=0.15)
    assert found.stages["fast"].exponent == pytest.approx(0.5, abs=0.1)
    fresh = drawn(0.6, 0.5, 3000, seed=1)
    for rows in (fresh.n_run_K <= 6, fresh.n_run_K > 15):
        stated, observed = stated_and_observed(found, fresh, rows)
        assert stated == pytest.approx(observed, abs=0.05)
    early = found.at("fast", 1)
    assert early.null_confidence < found.at("fast", 30).null_confidence
    assert softmax(NULL_MN, early.temperature).max(axis=1).mean() == pytest.approx(early.null_confidence, abs=0.01)


def test_few_trials_stay_close_to_the_whole_and_to_the_stage_before() -> None:
    many, few = drawn(0.6, 0.5, 2000), drawn(0.02, 0.0, 2)
    stages = fit_stages(COMMON, {"fast": many, "final": few}, NULL_MN).stages
    assert abs(np.log(stages["fast"].temperature_at(10) / (0.6 * 10**-0.5))) < 0.2
    assert stages["final"].exponent > 0.3, "two trials do not contradict the stage before"
    assert abs(np.log(stages["final"].temperature_at(10) / COMMON.temperature)) < 1.0
    assert set(stages) == {"fast", "final"}


def test_more_betas_than_calibrated_change_nothing_and_an_older_calibration_has_one_temperature() -> None:
    found = fit_stages(COMMON, {"fast": drawn(0.6, 0.5, 500)}, NULL_MN)
    assert found.at("fast", 30) == found.at("fast", 500)
    assert found.at("fast", 0) == found.at("fast", 1)
    assert found.at("revised", 3) == found
    assert COMMON.at("fast", 3) == COMMON
