"""What calibration records of betas whose signal is known: curve, control, confidence by the other half of the runs."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.evaluation.learning_curve import FittedCurve
from mindsight.ingest.outputs import TrialBeta
from mindsight.retrieval import CandidatePool
from training.calibration.linear_choice import HeldOut, RunTrials, leave_one_run_out
from training.calibration.linear_curve import learning_curve, shuffled_control
from training.calibration.live import ScoredRun
from training.calibration.record import confidences, exchanged_control, left_out_trials

N_IMAGES, V, D = 40, 60, 12


@pytest.fixture(scope="module")
def pool() -> CandidatePool:
    rng = np.random.default_rng(0)
    ids = tuple(f"image-{k:02d}" for k in range(N_IMAGES))
    return CandidatePool(ids, rng.standard_normal((N_IMAGES, D)).astype(np.float32), ids)


@pytest.fixture(scope="module")
def runs(pool: CandidatePool) -> list[RunTrials]:
    rng = np.random.default_rng(1)
    mixing_DV = rng.standard_normal((D, V))
    made = []
    for _ in range(6):
        shown_K = rng.permutation(N_IMAGES)
        z_KV = pool.embeddings[shown_K] @ mixing_DV + 4.0 * rng.standard_normal((N_IMAGES, V))
        made.append(RunTrials((z_KV / z_KV.std(axis=0)).astype(np.float32), shown_K))
    return made


@pytest.fixture(scope="module")
def held_out(runs: list[RunTrials], pool: CandidatePool) -> HeldOut:
    return leave_one_run_out(runs, pool, np.random.default_rng(2))


def test_the_curve_rises_to_the_accuracy_of_all_trials(
    runs: list[RunTrials], pool: CandidatePool, held_out: HeldOut
) -> None:
    curve = learning_curve(runs, [5.0] * 6, pool, held_out)
    assert [point.trials for point in curve] == [25, 50, 100, 200]
    assert [point.minutes for point in curve] == pytest.approx([3.125, 6.25, 12.5, 25.0])
    assert curve[-1].accuracy.hits == held_out.accuracy.hits
    assert curve[0].accuracy.value + 0.15 < curve[-1].accuracy.value
    predicted = FittedCurve.fit(curve[:-1]).accuracy(200)
    assert predicted.low <= curve[-1].accuracy.value <= predicted.high


def test_shuffled_labels_are_at_chance(runs: list[RunTrials], pool: CandidatePool, held_out: HeldOut) -> None:
    control = shuffled_control(runs, pool, held_out)
    assert not control.leaks
    assert control.accuracy.n == 240
    assert control.accuracy.value < 0.1
    # A control that could not fail would show the labels' own accuracy as no leak.
    assert held_out.accuracy.interval[0] > held_out.accuracy.chance


@pytest.mark.slow
def test_confidence_is_of_the_other_half_of_the_runs(
    runs: list[RunTrials], pool: CandidatePool, held_out: HeldOut
) -> None:
    nothing_V = np.zeros(V, np.float32)
    scored = []
    for number, run in enumerate(runs):
        betas = [
            TrialBeta(number + 1, k + 1, "final", z_V, None, None, 9, False, nothing_V, nothing_V + 1, 9, "run", k + 1)
            for k, z_V in enumerate(run.z_KV)
        ]
        rows = slice(number * N_IMAGES, (number + 1) * N_IMAGES)
        scored.append(ScoredRun(betas, held_out.scores_KN[rows], run.shown_K))
    null_MN = held_out.null_MN[::20]
    sure = confidences(scored, held_out.calibration, null_MN)
    spoilt = [*scored[:-1], ScoredRun(scored[-1].betas, scored[-1].scores_KN[::-1].copy(), scored[-1].shown_K)]
    again = confidences(spoilt, held_out.calibration, null_MN)
    for number in range(5):
        assert np.allclose(sure[number], again[number]) == (number % 2 == 1)  # of the sixth run's own half
    trials = left_out_trials(scored, sure, pool.ids, [f"decoder-{k}" for k in range(6)])
    assert len(trials) == 240
    assert sum(one.image_rank == 1 for one in trials) == held_out.accuracy.hits
    assert trials[-1].decoder == "decoder-5"
    stated, right = np.mean([one.confidence for one in trials]), np.mean([one.first == one.image for one in trials])
    assert stated == pytest.approx(right, abs=0.1)
    control = exchanged_control(scored)
    assert control is not None
    assert not control.leaks
    assert 200 < control.accuracy.n <= 240
    everything_KN = np.ones_like(held_out.scores_KN[:2])
    assert exchanged_control([ScoredRun(scored[0].betas[:2], everything_KN, np.array([3, 3]))]) is None
