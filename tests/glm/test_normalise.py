"""What betas are z-scored by, against mean and standard deviation of the betas themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.glm import Normaliser, Statistics, WarmUp


@pytest.fixture
def beta_KV() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(0, 3, 40) + rng.normal(0, 1, (20, 40)) * rng.uniform(0.5, 2, 40)).astype(np.float32)


def assert_equal(got: Statistics, beta_KV: NDArray[np.float32]) -> None:
    assert got.n == len(beta_KV)
    np.testing.assert_allclose(got.mean_V, beta_KV.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.std_V, beta_KV.std(axis=0), rtol=1e-4)


def test_running_takes_the_newest_of_all_others(beta_KV: NDArray[np.float32]) -> None:
    normaliser = Normaliser(40, "running", None, min_betas=6)
    for trial in range(8):
        normaliser.put(trial, beta_KV[trial + 10])
    for trial in range(8):
        normaliser.put(trial, beta_KV[trial])
    got, source = normaliser.statistics(3)
    assert source == "running"
    assert_equal(got, np.delete(beta_KV[:8], 3, axis=0))
    normaliser.end_run()
    normaliser.put(3, beta_KV[8])
    normaliser.put(4, beta_KV[9])
    assert_equal(normaliser.statistics(4)[0], beta_KV[:9])
    assert_equal(normaliser.statistics(77)[0], beta_KV[:10])


def test_run_takes_the_present_run_with_the_present_trial(beta_KV: NDArray[np.float32]) -> None:
    normaliser = Normaliser(40, "run", None, min_betas=6)
    for trial in range(8):
        normaliser.put(trial, beta_KV[trial])
    normaliser.end_run()
    normaliser.put(0, beta_KV[8])
    got, source = normaliser.statistics(0)
    assert source == "running"
    assert_equal(got, beta_KV[:8])
    for trial in range(1, 5):
        normaliser.put(trial, beta_KV[8 + trial])
    assert normaliser.statistics(2)[1] == "run"
    normaliser.put(5, beta_KV[13])
    got, source = normaliser.statistics(2)
    assert source == "run"
    assert_equal(got, beta_KV[8:14])


def test_a_young_run_has_its_own_mean_and_a_spread_filled_up_with_what_is_known(beta_KV: NDArray[np.float32]) -> None:
    bundle = Statistics(beta_KV[:12].mean(0), beta_KV[:12].std(0), 12)
    normaliser = Normaliser(40, "run", bundle, min_betas=6)
    offset = np.float32(50.0)
    normaliser.put_all({trial: beta_KV[trial] + offset for trial in range(12, 14)})
    young, source = normaliser.statistics(13)
    assert (source, young.n) == ("run", 2)
    np.testing.assert_allclose(young.mean_V, beta_KV[12:14].mean(0) + offset, rtol=1e-5)
    expected_V = np.sqrt((2 * beta_KV[12:14].var(0) + 4 * beta_KV[:12].var(0)) / 6)
    np.testing.assert_allclose(young.std_V, expected_V, rtol=1e-3)
    assert normaliser.warming_up(13) == WarmUp(2, 6)
    normaliser.put_all({trial: beta_KV[trial] for trial in range(12, 18)})
    assert_equal(normaliser.statistics(13)[0], beta_KV[12:18])
    assert normaliser.warming_up(13) is None


def test_what_the_running_statistics_rest_on_warms_up_once_in_a_session(beta_KV: NDArray[np.float32]) -> None:
    normaliser = Normaliser(40, "running", None, min_betas=3)
    normaliser.put_all({trial: beta_KV[trial] for trial in range(3)})
    assert normaliser.warming_up(1) == WarmUp(2, 3)
    assert normaliser.warming_up(9) is None
    normaliser.end_run()
    normaliser.put(1, beta_KV[4])
    assert (normaliser.n_run, normaliser.warming_up(1)) == (1, None)
    assert Normaliser(40, "bundle", None).warming_up(1) is None


def test_the_bundle_s_statistics_start_the_running_ones_warm(beta_KV: NDArray[np.float32]) -> None:
    calibration_KV = beta_KV[:12]
    bundle = Statistics(calibration_KV.mean(0), calibration_KV.std(0), 12)
    whole = Normaliser(40, "running", bundle, prior_betas=100)
    got, source = whole.statistics(1)
    assert source == "running"
    assert_equal(got, calibration_KV)
    for trial in range(12, 20):
        whole.put(trial, beta_KV[trial])
    assert_equal(whole.statistics(99)[0], beta_KV)
    capped = Normaliser(40, "running", bundle, prior_betas=4)
    assert Normaliser(40, "running", bundle, prior_betas=4).statistics(1)[1] == "none"
    for trial in range(12, 20):
        capped.put(trial, beta_KV[trial])
    got, _ = capped.statistics(99)
    assert got.n == 12
    expected_V = (4 * calibration_KV.mean(0) + beta_KV[12:].sum(0)) / 12
    np.testing.assert_allclose(got.mean_V, expected_V, rtol=1e-4, atol=1e-5)


def test_bundle_stays_as_calibrated(beta_KV: NDArray[np.float32]) -> None:
    bundle = Statistics(beta_KV.mean(0), beta_KV.std(0), 20)
    normaliser = Normaliser(40, "bundle", bundle)
    normaliser.put(1, beta_KV[0])
    assert normaliser.statistics(1) == (bundle, "bundle")


@pytest.mark.parametrize("policy", ["running", "run", "bundle"])
def test_without_betas_nothing_is_changed(policy: str, beta_KV: NDArray[np.float32]) -> None:
    normaliser = Normaliser(40, policy, None, min_betas=6)
    for trial in range(3):
        normaliser.put(trial, beta_KV[trial])
    got, source = normaliser.statistics(1)
    assert source == "none"
    assert (got.n, got.mean_V.max(), got.std_V.min()) == (0, 0.0, 1.0)


def test_silent_voxels_stay_silent_and_small_spreads_have_a_floor(beta_KV: NDArray[np.float32]) -> None:
    beta_KV = beta_KV.copy()
    beta_KV[:, 0] = 0.0
    beta_KV[:, 1] = 0.37
    beta_KV[:, 2] *= 1e-4
    normaliser = Normaliser(40, "run", None)
    for trial, beta_V in enumerate(beta_KV):
        normaliser.put(trial, beta_KV[-1])
        normaliser.put(trial, beta_V)
    got, _ = normaliser.statistics(1)
    assert (got.std_V[0], got.std_V[1]) == (0.0, 0.0)
    assert got.std_V[2] == pytest.approx(0.1 * np.median(beta_KV[:, 2:].std(0)), rel=1e-3)
    np.testing.assert_allclose(got.std_V[3:], beta_KV[:, 3:].std(0), rtol=1e-4)


def test_state_goes_on_to_the_same_bits(beta_KV: NDArray[np.float32]) -> None:
    straight, restored = Normaliser(40, "running", None), Normaliser(40, "running", None)
    for trial, beta_V in enumerate(beta_KV):
        for normaliser in (straight, restored):
            normaliser.put(trial % 7, beta_V)
            if trial == 9:
                normaliser.end_run()
        state = restored.state()
        restored = Normaliser(40, "running", None)
        restored.load_state(state)
        ours, theirs = straight.statistics(2)[0], restored.statistics(2)[0]
        assert ours.n == theirs.n
        assert ours.mean_V.tobytes() == theirs.mean_V.tobytes()
        assert ours.std_V.tobytes() == theirs.std_V.tobytes()


def test_running_including_scores_a_trial_by_itself_too(beta_KV: NDArray[np.float32]) -> None:
    normaliser = Normaliser(40, "running_including", None, min_betas=2)
    normaliser.put(0, beta_KV[0])
    assert normaliser.statistics(0)[1] == "none"
    for trial in range(1, 8):
        normaliser.put(trial, beta_KV[trial])
    got, source = normaliser.statistics(3)
    assert source == "running_including"
    assert_equal(got, beta_KV[:8])
    normaliser.end_run()
    normaliser.put(3, beta_KV[8])
    assert_equal(normaliser.statistics(3)[0], beta_KV[:9])


def test_the_floor_keeps_a_voxel_that_hardly_varied_from_being_everything(beta_KV: NDArray[np.float32]) -> None:
    beta_KV[:8, 5] = beta_KV[0, 5] + np.linspace(0.0, 1e-3, 8, dtype=np.float32)
    stds = {}
    for floor in (0.0, 0.1, 0.5):
        normaliser = Normaliser(40, "run", None, std_floor=floor)
        for trial in range(8):
            normaliser.put(trial, beta_KV[trial])
        stds[floor] = normaliser.statistics(1)[0].std_V
    assert stds[0.0][5] < 1e-3
    for floor in (0.1, 0.5):
        assert stds[floor].min() == pytest.approx(floor * np.median(stds[0.0]), rel=1e-5)
