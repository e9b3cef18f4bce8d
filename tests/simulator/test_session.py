"""The simulated participant, experiment and scanner: seeded, retinotopic, and honest about what is possible."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.simulator.anatomy import GRID, grid_points
from mindsight.simulator.ceiling import Observer, ceiling, final_betas, simulate_series
from mindsight.simulator.experiment import Design, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import QUIET, Noise, SimulatedScanner, response_courses, rigid_matrix

SHORT = Design(trials_per_run=20, repeats_per_run=2)


def smooth_tokens(n: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 24)) @ rng.normal(size=(24, 16 * 64))


@pytest.fixture(scope="module")
def tokens() -> NDArray[np.float64]:
    return smooth_tokens(140, 0).reshape(140, 16, 64)


@pytest.fixture(scope="module")
def participant(tokens: NDArray[np.float64]) -> Participant:
    return Participant(3, tokens, n_voxels=600)


def test_the_same_seed_is_the_same_person(tokens: NDArray[np.float64], participant: Participant) -> None:
    again = Participant(3, tokens, n_voxels=600)
    other = Participant(4, tokens, n_voxels=600)
    np.testing.assert_array_equal(participant.responses(tokens), again.responses(tokens))
    assert abs(np.corrcoef(participant.responses(tokens).ravel(), other.responses(tokens).ravel())[0, 1]) < 0.5


def test_responses_are_normalised_over_the_population(tokens: NDArray[np.float64], participant: Participant) -> None:
    responses_NV = participant.responses(tokens)
    assert 0.8 < responses_NV.mean() < 1.3
    assert 0.6 < np.median(responses_NV.std(axis=0)) < 1.0


def test_each_hemisphere_sees_the_other_half_of_the_image(
    tokens: NDArray[np.float64], participant: Participant
) -> None:
    changed = tokens.reshape(-1, 4, 4, 64).copy()
    changed[:, :, 2:] += 3.0 * np.random.default_rng(1).normal(size=changed[:, :, 2:].shape)
    moved_V = np.abs(participant.responses(changed.reshape(-1, 16, 64)) - participant.responses(tokens)).mean(axis=0)
    assert moved_V[participant.left_V].mean() > 2.0 * moved_V[~participant.left_V].mean()


def test_plans_hold_repeats_blanks_and_room_for_the_response() -> None:
    first, second = plan_runs(SHORT, 2, 50, seed=5)
    assert plan_runs(SHORT, 2, 50, seed=5)[1] == second
    shown = [s.candidate for s in first.shown]
    assert len(shown) == 20
    assert len(set(shown)) == 18
    assert [s.trial for s in first.shown] == list(range(1, 21))
    onsets = np.array([s.onset_s for s in first.shown])
    assert np.diff(onsets).min() >= 4.0
    assert np.diff(onsets).max() >= 8.0  # a blank slot
    assert first.n_volumes * first.tr_s >= onsets[-1] + 3.0 + 12.0


def test_volumes_follow_from_the_seed_and_run(participant: Participant, tokens: NDArray[np.float64]) -> None:
    responses_NV = participant.responses(tokens)
    plan = plan_runs(SHORT, 1, len(tokens), seed=1)[0]
    one = [v.data for _, v in zip(range(5), SimulatedScanner(participant, 9).run(plan, responses_NV), strict=False)]
    two = [v.data for _, v in zip(range(5), SimulatedScanner(participant, 9).run(plan, responses_NV), strict=False)]
    other = next(SimulatedScanner(participant, 10).run(plan, responses_NV)).data
    np.testing.assert_array_equal(one, two)
    assert one[0].dtype == np.int16
    assert not np.array_equal(one[0], other)


def test_a_quiet_scanner_shows_the_responses_where_the_visual_voxels_are(
    participant: Participant, tokens: NDArray[np.float64]
) -> None:
    responses_NV = participant.responses(tokens)
    plan = plan_runs(SHORT, 1, len(tokens), seed=1)[0]
    scanner = SimulatedScanner(participant, 9, QUIET)
    data = np.stack([v.data for v in scanner.run(plan, responses_NV)]).astype(float)
    series_TV = data[(slice(None), *scanner.head.visual_V3.T)]
    measured_TV = 100.0 * (series_TV / series_TV[0] - 1.0)
    expected_TV = response_courses(plan) @ responses_NV[[s.candidate for s in plan.shown]]
    assert np.corrcoef(measured_TV.ravel(), expected_TV.ravel())[0, 1] > 0.97
    quiet = np.delete(data.reshape(len(data), -1), np.ravel_multi_index(scanner.head.visual_V3.T, data.shape[1:]), 1)
    assert np.ptp(quiet, axis=0).max() <= 1.0


def test_the_head_moves_as_its_pose_states(participant: Participant) -> None:
    scanner = SimulatedScanner(participant, 9, QUIET)
    still_V = np.zeros(participant.n_voxels)
    pose = np.array([3.0, -2.0, 0.0, 0.0, 0.0, 0.05])  # in the plane: the slices do not cover the whole head

    points = grid_points(GRID, scanner.head.affine)

    def centre(image: NDArray[np.float64]) -> NDArray[np.float64]:
        image = image / scanner._receive
        return np.asarray((points * image).sum(axis=(1, 2, 3)) / image.sum())

    before = centre(scanner.clean_volume(np.zeros(6), still_V))
    after = centre(scanner.clean_volume(pose, still_V))
    np.testing.assert_allclose(after, (rigid_matrix(pose) @ [*before, 1.0])[:3], atol=0.15)


def test_betas_follow_the_responses_and_the_ceiling_follows_the_noise(
    participant: Participant, tokens: NDArray[np.float64]
) -> None:
    responses_NV = participant.responses(tokens)
    plans = plan_runs(SHORT, 2, len(tokens), seed=2)
    rng = np.random.default_rng(0)
    betas_KV = final_betas(plans[0], simulate_series(plans[0], responses_NV, Noise(), rng))
    true_KV = responses_NV[[s.candidate for s in plans[0].shown]]
    per_voxel = [np.corrcoef(betas_KV[:, v], true_KV[:, v])[0, 1] for v in range(100)]
    assert np.median(per_voxel) > 0.3

    loud = Noise(physiological_percent=5.0, thermal_percent=5.0)
    deafening = Noise(physiological_percent=4000.0, thermal_percent=4000.0)
    quiet_top1 = ceiling(plans, responses_NV, QUIET, seed=1)
    loud_top1 = ceiling(plans, responses_NV, loud, seed=1)
    deaf_top1 = ceiling(plans, responses_NV, deafening, seed=1)
    assert quiet_top1.value >= 0.9
    assert deaf_top1.value < 0.1
    assert quiet_top1.value >= loud_top1.value > deaf_top1.value
    assert quiet_top1.n == 40
    assert quiet_top1.chance == pytest.approx(1 / 140)


def test_identification_without_any_information_is_at_chance(participant: Participant) -> None:
    responses_NV = participant.responses(smooth_tokens(50, 3).reshape(50, 16, 64))
    rng = np.random.default_rng(0)
    shown_K = rng.integers(0, 50, 400)
    betas_KV = responses_NV[rng.permutation(shown_K)] + rng.normal(size=(400, 600))
    observer = Observer.learn(betas_KV[:200], list(shown_K[:200]), responses_NV)
    hits = (observer.identify(betas_KV[200:], responses_NV) == shown_K[200:]).mean()
    assert hits < 0.08
