"""The streaming GLM against nilearn, frame by frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.errors import BadRequest, BadVolume
from mindsight.glm import Event, StreamingGLM
from support.glm_oracle import Run, make_run, nilearn_beta

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def small_run() -> Run:
    return make_run()


def new_glm(run: Run, noise: str, **options: object) -> StreamingGLM:
    glm = StreamingGLM(run.series_TV.shape[1], run.tr_s, noise=noise, n_confounds=run.confounds_TC.shape[1], **options)
    for event in run.events:
        glm.add_event(event)
    return glm


def pushed_glm(run: Run, noise: str, n_frames: int, censored: tuple[int, ...] = (), **options: object) -> StreamingGLM:
    glm = new_glm(run, noise, **options)
    for i in range(n_frames):
        glm.push(run.series_TV[i], run.confounds_TC[i], censored=i in censored)
    return glm


def error(ours_V: NDArray[np.float64], nilearn_V: NDArray[np.float64]) -> float:
    return float(np.abs(ours_V - nilearn_V).max() / nilearn_V.std())


@pytest.mark.parametrize(
    ("n_voxels", "noise"),
    [
        (30, "ar1"),
        pytest.param(30, "ols", marks=pytest.mark.slow),
        pytest.param(300, "ar1", marks=pytest.mark.slow),
        pytest.param(300, "ols", marks=pytest.mark.slow),
    ],
)
def test_equals_nilearn_after_every_volume(n_voxels: int, noise: str) -> None:
    run = make_run(n_voxels=n_voxels)
    glm = new_glm(run, noise)
    errors = []
    for i, (y_V, confounds_C) in enumerate(zip(run.series_TV, run.confounds_TC, strict=True)):
        glm.push(y_V, confounds_C)
        asked = [e.trial for e in run.events if e.onset_s <= (i - 1) * run.tr_s and e.trial]
        for trial in {*asked[-2:], *asked[:1]}:
            errors.append(error(glm.beta(trial), nilearn_beta(run, trial, i + 1, noise)))
    assert len(errors) > 200
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({"tr_s": 1.97}, {}),  # 24 s are not a whole number of steps: the fine grid shifts with every frame
        ({"tr_s": 2.5, "duration_s": 22.5, "soa_s": 36.0, "n_frames": 121}, {}),
        ({"tr_s": 0.8, "duration_s": 0.0, "soa_s": 4.0}, {"hrf": "spm"}),
        ({"tr_s": 1.5, "soa_s": 1.3}, {"high_pass_hz": 0.025}),  # boxes overlap
        ({"tr_s": 1.5, "soa_s": 4.5, "n_confounds": 0}, {"high_pass_hz": 0.0}),  # onsets fall on the grid's points
    ],
)
def test_equals_nilearn_for_other_timings(noise: str, shape: dict[str, float], options: dict[str, object]) -> None:
    run = make_run(n_voxels=30, seed=3, **shape)
    glm = new_glm(run, noise, **options)
    errors = []
    for i, (y_V, confounds_C) in enumerate(zip(run.series_TV, run.confounds_TC, strict=True)):
        glm.push(y_V, confounds_C)
        asked = [e.trial for e in run.events if e.onset_s <= (i - 2) * run.tr_s and e.trial]
        if asked and i % 3 == 0:
            trial = asked[len(asked) // 2]
            errors.append(error(glm.beta(trial), nilearn_beta(run, trial, i + 1, noise, **options)))
    assert len(errors) > 20
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_all_trials_at_once_equal_one_by_one(small_run: Run, noise: str) -> None:
    for n_frames in (1, 4, 7, 30, 90):
        glm = pushed_glm(small_run, noise, n_frames)
        together_KV = glm.betas()
        assert together_KV.shape == (len(glm.started), small_run.series_TV.shape[1])
        for beta_V, trial in zip(together_KV, glm.started, strict=True):
            one_V = glm.beta(trial)
            assert np.abs(beta_V - one_V).max() <= TOLERANCE * one_V.std()


def test_a_censored_frame_equals_a_spike_regressor(small_run: Run) -> None:
    for noise in ("ols", "ar1"):
        beta_V = pushed_glm(small_run, noise, 60, censored=(17, 18, 40)).beta(3)
        assert error(beta_V, nilearn_beta(small_run, 3, 60, noise, censored=(17, 18, 40))) < TOLERANCE
        assert error(beta_V, nilearn_beta(small_run, 3, 60, noise)) > 0.01


@pytest.mark.parametrize("missing", [(0, 1), (17,), (30, 31, 32)])
def test_what_a_censored_frame_holds_does_not_matter(small_run: Run, missing: tuple[int, ...]) -> None:
    held_TV = small_run.series_TV.copy()
    for i in missing:
        held_TV[i] = held_TV[i - 1] if i else 0.0
    for noise in ("ols", "ar1"):
        expected_V = nilearn_beta(small_run, 4, 60, noise, censored=missing)
        for run in (small_run, replace(small_run, series_TV=held_TV)):
            assert error(pushed_glm(run, noise, 60, censored=missing).beta(4), expected_V) < TOLERANCE


def test_constant_and_repeated_confounds_do_no_harm(small_run: Run) -> None:
    confounds_TC = small_run.confounds_TC.copy()
    confounds_TC[:, 0], confounds_TC[:, 1] = 0.0, 3.0
    confounds_TC[:, 2] = confounds_TC[:, 3]
    singular = replace(small_run, confounds_TC=confounds_TC)
    regular = replace(small_run, confounds_TC=confounds_TC[:, 3:])
    for noise in ("ols", "ar1"):
        glm = pushed_glm(singular, noise, 60)
        assert error(glm.beta(3), nilearn_beta(singular, 3, 60, noise)) < TOLERANCE
        assert error(glm.beta(3), nilearn_beta(regular, 3, 60, noise)) < TOLERANCE
        assert error(glm.betas()[2], glm.beta(3)) < TOLERANCE


def test_a_silent_voxel_has_no_response(small_run: Run) -> None:
    series_TV = small_run.series_TV.copy()
    series_TV[:, 5] = 77.0
    beta_V = pushed_glm(replace(small_run, series_TV=series_TV), "ar1", 60).beta(3)
    assert abs(beta_V[5]) < 1e-9
    assert np.array_equal(np.delete(beta_V, 5), np.delete(pushed_glm(small_run, "ar1", 60).beta(3), 5))


def test_events_without_a_trial_belong_to_the_others(small_run: Run) -> None:
    events = tuple(replace(e, trial=None) if e.trial in (2, 5) else e for e in small_run.events)
    for noise in ("ols", "ar1"):
        glm = pushed_glm(replace(small_run, events=events), noise, 60)
        assert np.array_equal(glm.beta(3), pushed_glm(small_run, noise, 60).beta(3))
        assert glm.started == (1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        assert error(glm.betas()[1], glm.beta(3)) < TOLERANCE


def test_what_comes_later_changes_nothing_before(small_run: Run) -> None:
    early = replace(small_run, events=tuple(e for e in small_run.events if e.onset_s <= 59 * small_run.tr_s))
    for noise in ("ols", "ar1"):
        assert np.array_equal(pushed_glm(small_run, noise, 60).beta(3), pushed_glm(early, noise, 60).beta(3))


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_state_goes_on_to_the_same_bits(small_run: Run, noise: str) -> None:
    straight = new_glm(small_run, noise)
    restored = new_glm(replace(small_run, events=()), noise)
    restored.load_state(straight.state())
    for i, (y_V, confounds_C) in enumerate(zip(small_run.series_TV, small_run.confounds_TC, strict=True)):
        straight.push(y_V, confounds_C, censored=i in (0, 30))
        restored.push(y_V, confounds_C, censored=i in (0, 30))
        state = restored.state()
        restored = StreamingGLM(small_run.series_TV.shape[1], small_run.tr_s, noise=noise, n_confounds=6)
        restored.load_state(state)
        assert restored.started == straight.started
        for trial in straight.started[-2:]:
            assert restored.beta(trial).tobytes() == straight.beta(trial).tobytes()
    assert restored.events == straight.events
    assert restored.betas().tobytes() == straight.betas().tobytes()


def test_series_are_what_was_pushed(small_run: Run) -> None:
    assert np.array_equal(pushed_glm(small_run, "ols", 90).series(), small_run.series_TV)


def test_errors_say_what_was_expected() -> None:
    glm = StreamingGLM(4, 2.0, n_confounds=1)
    glm.add_event(Event(1.0, 2.0, trial=1))
    cases = [
        ("trial.duplicate", BadRequest, lambda: glm.add_event(Event(9.0, 2.0, trial=1))),
        ("trial.unknown", BadRequest, lambda: glm.beta(2)),
        ("trial.not_started", BadRequest, lambda: glm.beta(1)),
        ("event.invalid", BadRequest, lambda: Event(float("nan"), 1.0, 1)),
        ("event.invalid", BadRequest, lambda: Event(-24.0, 1.0, 1)),
        ("event.invalid", BadRequest, lambda: Event(1.0, -1.0, 1)),
        ("confounds.shape", BadRequest, lambda: glm.push(np.zeros(4))),
        ("volume.voxel_count", BadVolume, lambda: glm.push(np.zeros(5), [0.0])),
        ("volume.not_finite", BadVolume, lambda: glm.push([0.0, 1.0, np.nan, 0.0], [0.0])),
        ("glm.option", BadRequest, lambda: StreamingGLM(4, 2.0, hrf="boynton")),
        ("glm.option", BadRequest, lambda: StreamingGLM(4, 2.0, high_pass_hz=0.3)),
    ]
    for code, kind, call in cases:
        with pytest.raises(kind, match="expected") as raised:
            call()
        assert raised.value.code == code
    assert glm.n_frames == 0
    assert glm.betas().shape == (0, 4)
