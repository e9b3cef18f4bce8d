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


FACTORS = np.array([8.0, 0.25, 3.0, 1.0, 1.0, 1.0])


def with_first(seed: int) -> StageTrials:
    """Runs of 30 trials, the first of which have temperatures of their own."""
    rng = np.random.default_rng(seed)
    trial_K = np.tile(np.arange(1, 31), 100)
    scores_KN = rng.uniform(-1, 1, (len(trial_K), 20))
    factor_K = np.append(FACTORS, np.ones(24))[trial_K - 1]
    temperature_K = 0.6 * trial_K**-0.5 * factor_K
    truth = [rng.choice(20, p=softmax(one, t)) for one, t in zip(scores_KN, temperature_K, strict=True)]
    return StageTrials(scores_KN, np.eye(20, dtype=bool)[truth], trial_K, trial_K)


def test_the_first_trials_of_a_run_have_factors_of_their_own() -> None:
    found = fit_stages(COMMON, {"fast": with_first(0)}, NULL_MN).stages["fast"]
    for number in range(1, 7):
        own, true = found.temperature_at(number, number), 0.6 * number**-0.5 * FACTORS[number - 1]
        any_KN = np.random.default_rng(3).uniform(-1, 1, (500, 20))
        stated, known = (softmax(any_KN, temperature).max(axis=1).mean() for temperature in (own, true))
        assert stated == pytest.approx(known, abs=0.06), number
        nulls = softmax(NULL_MN, own).max(axis=1).mean()
        assert found.null_confidence_at(number, number) == pytest.approx(nulls, abs=0.02)
    assert found.temperature_at(7, 7) == found.temperature_at(7) == found.temperature_at(7, None)
    fresh = with_first(1)
    stated, observed = [], []
    assert fresh.trial_K is not None
    for scores_N, right_N, trial in zip(fresh.scores_KN, fresh.right_KN, fresh.trial_K, strict=True):
        if trial <= 6:
            probabilities_N = softmax(scores_N, found.temperature_at(int(trial), int(trial)))
            stated.append(probabilities_N.max())
            observed.append(right_N[probabilities_N.argmax()])
    assert np.mean(stated) == pytest.approx(np.mean(observed), abs=0.06)


def test_results_that_are_far_off_do_not_lower_what_is_stated_of_the_others() -> None:
    trials = drawn(0.3, 0.0, 600)
    right_KN = trials.right_KN.copy()
    right_KN[::6] = np.eye(20, dtype=bool)[trials.scores_KN[::6].argmin(axis=1)]  # the right one comes last
    far_off = StageTrials(trials.scores_KN, right_KN, trials.n_run_K)
    found = fit_stages(COMMON, {"fast": far_off}, NULL_MN)
    stated, observed = stated_and_observed(found, far_off, np.ones(600, np.bool_))
    assert stated == pytest.approx(observed, abs=0.02)


def test_one_run_moves_the_first_trials_little_and_unknown_numbers_not_at_all() -> None:
    one = with_first(2)
    rows = slice(0, 30)
    assert one.trial_K is not None
    run = StageTrials(one.scores_KN[rows], one.right_KN[rows], one.n_run_K[rows], one.trial_K[rows])
    found = fit_stages(COMMON, {"fast": run}, NULL_MN).stages["fast"]
    assert all(abs(np.log(factor)) < 2.0 for factor in found.first)  # two standard deviations of the prior
    unknown = StageTrials(run.scores_KN, run.right_KN, run.n_run_K)
    assert fit_stages(COMMON, {"fast": unknown}, NULL_MN).stages["fast"].first == ()


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
