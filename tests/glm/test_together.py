"""All trials at once: the same numbers as one by one, whatever the designs look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.glm import Event, StreamingGLM
from mindsight.glm import together as together_module
from mindsight.glm.together import Directions
from support.glm_oracle import Run, make_run, nilearn_effect

# The promise, in standard deviations of the betas. Rounding in double precision stays three orders below it.
BETA_TOLERANCE = 1e-9
# One by one the residuals behind the error are computed in single precision, which has 24 bits.
ERROR_TOLERANCE = 1e-5


def make_glm(run: Run, noise: str, n_frames: int, censored: tuple[int, ...] = (), **options: object) -> StreamingGLM:
    glm = StreamingGLM(run.series_TV.shape[1], run.tr_s, noise=noise, n_confounds=run.confounds_TC.shape[1], **options)
    for event in run.events:
        glm.add_event(event)
    for i in range(n_frames):
        glm.push(run.series_TV[i], run.confounds_TC[i], censored=i in censored)
    return glm


def assert_the_same(glm: StreamingGLM, trials: list[int] | None = None) -> None:
    trials = list(glm.started) if trials is None else trials
    found = glm.estimates(trials)
    assert len(found) == len(trials)
    for trial, estimate in zip(trials, found, strict=True):
        alone = glm.estimate(trial)
        assert np.abs(estimate.beta_V - alone.beta_V).max() <= BETA_TOLERANCE * alone.beta_V.std()
        assert np.array_equal(np.isfinite(estimate.error_V), np.isfinite(alone.error_V))
        known_V = np.isfinite(alone.error_V)
        assert np.allclose(estimate.error_V[known_V], alone.error_V[known_V], rtol=ERROR_TOLERANCE, atol=0.0)


@pytest.fixture(scope="module")
def run() -> Run:
    return make_run()


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize("n_frames", [3, 9, 14, 16, 31, 90])
def test_the_same_numbers_as_one_by_one(run: Run, noise: str, n_frames: int) -> None:
    assert_the_same(make_glm(run, noise, n_frames))


@pytest.mark.parametrize("options", [{"n_planned": 90}, {"hrf": "spm"}, {"high_pass_hz": 0.0}])
def test_the_same_numbers_with_other_options(run: Run, options: dict[str, object]) -> None:
    assert_the_same(make_glm(run, "ar1", 90, (17, 18, 89), **options))


def test_the_same_numbers_where_voxels_differ_in_their_response_and_their_slice_s_time(run: Run) -> None:
    n = run.series_TV.shape[1]
    hrf_V, lag_V = np.arange(n) % 5, np.where(np.arange(n) % 2, 0.7, 0.0)
    assert_the_same(make_glm(run, "ar1", 90, hrf_V=hrf_V, lag_V=lag_V))


def test_a_part_of_the_trials_in_any_order(run: Run) -> None:
    assert_the_same(make_glm(run, "ar1", 90), [9, 2])


def test_the_same_numbers_however_voxels_are_cut_into_blocks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    glm = make_glm(run, "ar1", 90)
    monkeypatch.setattr(together_module, "_BLOCK", 7)
    assert_the_same(glm)


@pytest.mark.parametrize(
    "events",
    [
        (Event(20.0, 3.0, 1),),
        (Event(20.0, 3.0, 1), Event(20.0, 3.0, 2)),
        (Event(20.0, 3.0, 1), Event(20.0, 3.0, 2), Event(40.0, 3.0, 3), Event(60.0, 3.0, None)),
        (Event(-10.0, 0.0, 1), Event(-3.0, 2.0, 2), Event(30.0, 3.0, 3), Event(134.0, 3.0, 4)),
    ],
    ids=["alone", "two indistinguishable ones", "two alike among others", "before the run and at its end"],
)
def test_the_same_numbers_where_events_hardly_tell_trials_apart(run: Run, events: tuple[Event, ...]) -> None:
    glm = make_glm(replace(run, events=events), "ar1", 90)
    assert Directions.of(*_parts(glm)).sound_K.any() == (len(events) > 2)
    assert_the_same(glm)


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_the_same_numbers_as_nilearn(run: Run, noise: str) -> None:
    glm = make_glm(run, noise, 90, (40,))
    for trial, estimate in zip(glm.started, glm.estimates(glm.started), strict=True):
        beta_V, error_V = nilearn_effect(run, trial, 90, noise, censored=(40,))
        assert np.abs(estimate.beta_V - beta_V).max() <= 1e-5 * beta_V.std()
        assert np.allclose(estimate.error_V, error_V, rtol=1e-5, atol=0.0)


def test_a_constant_voxel_has_a_beta_and_no_error(run: Run) -> None:
    series_TV = run.series_TV.copy()
    series_TV[:, 0] = 700.0
    (estimate,) = make_glm(replace(run, series_TV=series_TV), "ar1", 90).estimates([4])
    assert abs(estimate.beta_V[0]) < 1e-9
    assert estimate.error_V[0] < 1e-9


def test_none_asked_for_and_one_that_is_unknown(run: Run) -> None:
    glm = make_glm(run, "ar1", 30)
    assert glm.estimates([]) == []
    with pytest.raises(BadRequest, match="trial 99"):
        glm.estimates([1, 99])


def _parts(glm: StreamingGLM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    events, (regressors_TE,), nuisance_TP = glm._parts()
    indices = np.array([k for k, event in enumerate(events) if event.trial is not None])
    return regressors_TE, indices, nuisance_TP
