"""What is beyond nilearn's model: the beta's uncertainty, the fixed basis, ridge, response shapes, noise components."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.glm import Event, StreamingGLM
from mindsight.glm.design import lss_design, nuisance
from mindsight.glm.hrf import KERNEL_S, LIBRARY, kernel, regressors, response_energy
from mindsight.glm.noise import common_components
from support.glm_oracle import Run, make_run, nilearn_beta, nilearn_effect

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def small_run() -> Run:
    return make_run()


def pushed_glm(
    run: Run, noise: str, n_frames: int | None = None, censored: tuple[int, ...] = (), **options: object
) -> StreamingGLM:
    glm = StreamingGLM(run.series_TV.shape[1], run.tr_s, noise=noise, n_confounds=run.confounds_TC.shape[1], **options)
    for event in run.events:
        glm.add_event(event)
    for i in range(len(run.series_TV) if n_frames is None else n_frames):
        glm.push(run.series_TV[i], run.confounds_TC[i], censored=i in censored)
    return glm


def error(ours_V: NDArray[np.float64], expected_V: NDArray[np.float64]) -> float:
    return float(np.abs(ours_V - expected_V).max() / expected_V.std())


# Uncertainty


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize("censored", [(), (17, 18, 40)])
def test_standard_error_is_nilearn_s(small_run: Run, noise: str, censored: tuple[int, ...]) -> None:
    glm = pushed_glm(small_run, noise, 44, censored)
    for n_frames in range(45, 91, 5):
        for i in range(glm.n_frames, n_frames):
            glm.push(small_run.series_TV[i], small_run.confounds_TC[i])
        for trial in (1, 4, glm.started[-2]):
            _, expected_V = nilearn_effect(small_run, trial, n_frames, noise, censored=censored)
            assert np.abs(glm.estimate(trial).error_V / expected_V - 1.0).max() < TOLERANCE


def test_standard_error_is_the_spread_of_betas_over_draws_of_the_noise() -> None:
    rng = np.random.default_rng(4)
    run = make_run(n_voxels=4000, n_confounds=0)
    run = replace(run, series_TV=(500 + rng.normal(0, 7, (90, 4000))).astype(np.float32))
    glm = pushed_glm(run, "ols")
    assert glm.beta(4).std() == pytest.approx(np.sqrt((glm.estimate(4).error_V ** 2).mean()), rel=0.05)


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_nothing_is_known_of_the_noise_without_frames_to_spare(small_run: Run, noise: str) -> None:
    glm = pushed_glm(small_run, noise, 9)
    assert np.isinf(glm.estimate(1).error_V).all()
    assert np.isfinite(pushed_glm(small_run, noise, 12).estimate(1).error_V).all()


def test_a_redundant_confound_costs_no_certainty(small_run: Run) -> None:
    twice = replace(small_run, confounds_TC=np.hstack([small_run.confounds_TC, small_run.confounds_TC[:, :1]]))
    for noise in ("ols", "ar1"):
        once_V = pushed_glm(small_run, noise).estimate(3).error_V
        assert np.allclose(pushed_glm(twice, noise).estimate(3).error_V, once_V, rtol=TOLERANCE, atol=0.0)


# The fixed basis


@pytest.mark.parametrize("tr_s", [1.5, 1.97])
def test_rows_of_the_fixed_basis_do_not_change(small_run: Run, tr_s: float) -> None:
    run = replace(small_run, tr_s=tr_s)
    onsets, durations = (np.array([getattr(e, name) for e in run.events]) for name in ("onset_s", "duration_s"))
    kernel_sum = np.cumsum(kernel("glover", tr_s))
    censored_T = np.zeros(110, np.bool_)
    confounds_TC = np.zeros((110, 0))
    whole_TK = regressors(kernel_sum, onsets, durations, 110, tr_s, 90)
    whole_TP = nuisance(confounds_TC, censored_T, tr_s, 0.01, 90)
    for n in range(2, 110):
        assert np.array_equal(regressors(kernel_sum, onsets, durations, n, tr_s, 90), whole_TK[:n])
        assert np.array_equal(nuisance(confounds_TC[:n], censored_T[:n], tr_s, 0.01, 90), whole_TP[:n])
    assert np.array_equal(whole_TK[:90], regressors(kernel_sum, onsets, durations, 90, tr_s))


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_at_the_planned_length_the_fixed_basis_is_nilearn_s(small_run: Run, noise: str) -> None:
    glm = pushed_glm(small_run, noise, n_planned=90)
    for trial in (1, 7, 21):
        assert error(glm.beta(trial), nilearn_beta(small_run, trial, 90, noise)) < TOLERANCE
    assert error(pushed_glm(small_run, noise, 60, n_planned=90).beta(3), nilearn_beta(small_run, 3, 60, noise)) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_frames_that_the_fit_predicts_move_no_beta(seed: int) -> None:
    """The fixed basis' promise; events begin in these frames too. nilearn's basis does not keep it."""
    run = make_run(n_voxels=50, n_confounds=3, seed=seed)
    n, trial = 55 + seed, 2 + seed
    onsets, durations = (np.array([getattr(e, name) for e in run.events]) for name in ("onset_s", "duration_s"))
    whole_TK = regressors(np.cumsum(kernel("glover", run.tr_s)), onsets, durations, 90, run.tr_s, 90)
    nuisance_TP = nuisance(run.confounds_TC, np.zeros(90, np.bool_), run.tr_s, 0.01, 90)
    design_TP = lss_design(whole_TK, trial - 1, nuisance_TP)
    begun_TK = whole_TK[:n, onsets <= (n - 1) * run.tr_s]
    so_far_TP = lss_design(begun_TK, trial - 1, nuisance_TP[:n])
    coefficients_PV = np.linalg.lstsq(so_far_TP, run.series_TV[:n].astype(np.float64), rcond=None)[0]
    series_TV = np.vstack([run.series_TV[:n], design_TP[n:] @ coefficients_PV]).astype(np.float32)
    predicted = replace(run, series_TV=series_TV)
    before_V = pushed_glm(predicted, "ols", n, n_planned=90).beta(trial)
    assert error(pushed_glm(predicted, "ols", n_planned=90).beta(trial), before_V) < TOLERANCE
    assert error(pushed_glm(predicted, "ols").beta(trial), pushed_glm(predicted, "ols", n).beta(trial)) > 0.01


def test_a_run_may_be_longer_than_planned(small_run: Run) -> None:
    glm = pushed_glm(small_run, "ar1", n_planned=70)
    assert glm.started == tuple(e.trial for e in small_run.events)
    assert np.isfinite(glm.betas()).all()


# Ridge


def test_the_energy_of_an_event_of_any_length_costs_no_memory() -> None:
    kernel_sum = np.cumsum(kernel("glover", 2.0))
    sampled, longer, years = response_energy(kernel_sum, np.array([40.0, 60.0, 1e12]), 2.0)
    assert longer - sampled == pytest.approx(10.0 * kernel_sum[-1] ** 2)  # 20 s are 10 frames more at the plateau
    assert years == pytest.approx(1e12 / 2.0, rel=1e-6)


def dense_ridge(run: Run, n_frames: int, rho_V: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """(K, V) by one stacked least-squares problem per voxel."""
    started = [e for e in run.events if e.onset_s <= (n_frames - 1) * run.tr_s]
    onsets, durations = (np.array([getattr(e, name) for e in started]) for name in ("onset_s", "duration_s"))
    kernel_sum = np.cumsum(kernel("glover", run.tr_s))
    trials_TK = regressors(kernel_sum, onsets, durations, n_frames, run.tr_s)
    nuisance_TP = nuisance(run.confounds_TC[:n_frames], np.zeros(n_frames, np.bool_), run.tr_s, 0.01)
    energy_K = response_energy(kernel_sum, durations, run.tr_s)
    penalty_KP = np.hstack(
        [np.diag(np.sqrt((1.0 / fraction - 1.0) * energy_K)), np.zeros((len(started), nuisance_TP.shape[1]))]
    )
    beta_KV = np.empty((len(started), len(rho_V)))
    for v, rho in enumerate(rho_V):
        whitening_TT = np.eye(n_frames) - rho * np.eye(n_frames, k=-1)
        stacked_TP = np.vstack([whitening_TT @ np.hstack([trials_TK, nuisance_TP]), penalty_KP])
        y_T = np.concatenate([whitening_TT @ run.series_TV[:n_frames, v], np.zeros(len(started))])
        beta_KV[:, v] = np.linalg.lstsq(stacked_TP, y_T, rcond=None)[0][: len(started)] / fraction
    return beta_KV


def yule_walker(run: Run, n_frames: int) -> NDArray[np.float64]:
    """(V,) AR(1) coefficient left by one regressor for all events, in hundredths."""
    started = [e for e in run.events if e.onset_s <= (n_frames - 1) * run.tr_s]
    onsets, durations = (np.array([getattr(e, name) for e in started]) for name in ("onset_s", "duration_s"))
    task_TK = regressors(np.cumsum(kernel("glover", run.tr_s)), onsets, durations, n_frames, run.tr_s)
    others_TP = nuisance(run.confounds_TC[:n_frames], np.zeros(n_frames, np.bool_), run.tr_s, 0.01)
    design_TP = np.column_stack([task_TK.sum(axis=1), others_TP])
    y_TV = run.series_TV[:n_frames].astype(np.float64)
    e_TV = y_TV - design_TP @ np.linalg.lstsq(design_TP, y_TV, rcond=None)[0]
    r0_V, r1_V = (e_TV**2).sum(axis=0) / n_frames, (e_TV[1:] * e_TV[:-1]).sum(axis=0) / (n_frames - 1)
    return np.trunc(100 * r1_V / r0_V) / 100


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_ridge_equals_a_dense_solve(noise: str, fraction: float) -> None:
    run = make_run(n_voxels=40)
    for n_frames in (4, 10, 35, 90):
        rho_V = np.zeros(40) if noise == "ols" or n_frames == 4 else yule_walker(run, n_frames)
        glm = pushed_glm(run, noise, n_frames)
        expected_KV = dense_ridge(run, n_frames, rho_V, fraction)
        got_KV = glm.ridge_betas(glm.started, fraction)
        assert got_KV.shape == expected_KV.shape
        assert np.abs(got_KV - expected_KV).max() < max(TOLERANCE * expected_KV.std(), 1e-9)


def test_a_lonely_response_keeps_its_size_under_ridge() -> None:
    tr_s, n_frames = 1.0, 120
    event = Event(20.3, 2.0, 1)
    response_TK = regressors(np.cumsum(kernel("glover", tr_s)), np.array([20.3]), np.array([2.0]), n_frames, tr_s)
    for fraction in (0.2, 0.8):
        glm = StreamingGLM(1, tr_s, high_pass_hz=0.0)
        glm.add_event(event)
        for i in range(n_frames):
            glm.push([100.0 + 5.0 * response_TK[i, 0]])
        assert glm.ridge_betas([1], fraction)[0, 0] == pytest.approx(5.0, rel=0.15)
        assert glm.beta(1)[0] == pytest.approx(5.0, rel=1e-5)


# Shapes of the response


def test_the_library_is_twenty_different_responses() -> None:
    kernels_SL = np.array([kernel(shape, 1.0) for shape in LIBRARY])
    correlations_SS = np.corrcoef(kernels_SL)
    peaks_s = kernels_SL.argmax(axis=1) * KERNEL_S / kernels_SL.shape[1]
    assert len(LIBRARY) == 20
    assert np.allclose(kernels_SL.sum(axis=1), 1.0)
    assert (correlations_SS[~np.eye(20, dtype=np.bool_)] < 0.995).all()
    assert 2.5 < peaks_s.min() < 3.5 < 7.0 < peaks_s.max() < 8.0


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_each_voxel_has_the_response_it_was_given(noise: str) -> None:
    run = make_run(n_voxels=200)
    hrf_V = np.random.default_rng(1).integers(0, 20, 200)
    glm = pushed_glm(run, noise, hrf_V=hrf_V)
    together_KV, ridge_KV, error_V = glm.betas(), glm.ridge_betas([3, 5], 0.7), glm.estimate(3).error_V
    assert np.array_equal(glm.series(), run.series_TV)
    for shape in (0, 7, 19):
        own_V = hrf_V == shape
        alone = replace(run, series_TV=run.series_TV[:, own_V])
        only = pushed_glm(alone, noise, hrf_V=np.full(own_V.sum(), shape))
        assert np.allclose(glm.beta(3)[own_V], only.beta(3), rtol=1e-6)
        assert np.allclose(together_KV[:, own_V], only.betas(), rtol=0, atol=TOLERANCE * only.betas().std())
        assert np.allclose(ridge_KV[:, own_V], only.ridge_betas([3, 5], 0.7), rtol=1e-6)
        assert np.allclose(error_V[own_V], only.estimate(3).error_V, rtol=1e-6)
    assert error(glm.beta(3), pushed_glm(run, noise).beta(3)) > 0.1


def test_the_true_response_gives_the_true_beta() -> None:
    tr_s, n_frames = 1.0, 200
    onsets, durations = np.arange(5.0, 180.0, 12.0), np.full(15, 2.0)
    hrf_V = np.array([3, 12, 18])
    shapes_VTK = [regressors(np.cumsum(kernel(LIBRARY[s], tr_s)), onsets, durations, n_frames, tr_s) for s in hrf_V]
    glm = StreamingGLM(3, tr_s, hrf_V=hrf_V)
    for trial, onset in enumerate(onsets):
        glm.add_event(Event(float(onset), 2.0, trial))
    for i in range(n_frames):
        glm.push([100.0 + 4.0 * shape_TK[i].sum() for shape_TK in shapes_VTK])
    assert np.allclose(glm.betas(), 4.0, rtol=1e-4)


# Noise components


def test_components_are_the_first_principal_ones() -> None:
    rng = np.random.default_rng(2)
    series_VT = (rng.normal(0, 1, (80, 3)) @ rng.normal(0, 5, (3, 60)) + rng.normal(0, 1, (80, 60))).astype(np.float32)
    q_TR, _ = np.linalg.qr(nuisance(rng.normal(0, 1, (60, 2)), np.zeros(60, np.bool_), 1.5, 0.01))
    e_VT = series_VT - (series_VT @ q_TR) @ q_TR.T
    e_VT /= np.linalg.norm(e_VT, axis=1, keepdims=True)
    expected_TC = np.linalg.svd(e_VT)[2][:3].T
    got_TC = common_components(series_VT, q_TR, 3)
    assert np.allclose(np.abs(expected_TC.T @ got_TC), np.eye(3), atol=1e-6)
    assert common_components(series_VT[:, :20], np.linalg.qr(q_TR[:20])[0], 3).shape == (20, 1)


def noisy_run(rng: np.random.Generator) -> tuple[Run, NDArray[np.bool_]]:
    """A run in which one course, in every voxel, hides the responses of the first half of the voxels."""
    run = make_run(n_voxels=100, n_confounds=0)
    onsets, durations = (np.array([getattr(e, name) for e in run.events]) for name in ("onset_s", "duration_s"))
    task_TK = regressors(np.cumsum(kernel("glover", run.tr_s)), onsets, durations, 90, run.tr_s)
    series_TV = 500 + rng.normal(0, 1, (90, 100)) + np.outer(rng.normal(0, 10, 90), rng.normal(1, 0.3, 100))
    series_TV[:, :50] += 3.0 * task_TK.sum(axis=1, keepdims=True)
    return replace(run, series_TV=series_TV.astype(np.float32)), np.arange(100) >= 50


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_components_take_common_noise_away(noise: str) -> None:
    run, pool_V = noisy_run(np.random.default_rng(0))
    plain_KV = pushed_glm(run, noise).betas()[:-1, :50]
    cleaned_KV = pushed_glm(run, noise, noise_pool_V=pool_V, n_components=1).betas()[:-1, :50]
    assert np.abs(plain_KV - 3.0).mean() > 5.0
    assert np.abs(cleaned_KV - 3.0).mean() < 1.0


def test_the_pool_is_the_same_voxels_whatever_their_responses() -> None:
    run, pool_V = noisy_run(np.random.default_rng(0))
    hrf_V = np.random.default_rng(1).integers(0, 20, 100)
    options = {"noise_pool_V": pool_V, "n_components": 2}
    mixed_V = pushed_glm(run, "ar1", hrf_V=hrf_V, **options).beta(4)
    for shape in (2, 11):
        alike_V = pushed_glm(run, "ar1", hrf_V=np.full(100, shape), **options).beta(4)
        assert np.allclose(mixed_V[hrf_V == shape], alike_V[hrf_V == shape], rtol=1e-6)


def test_components_of_the_present_know_nothing_of_the_future() -> None:
    run, pool_V = noisy_run(np.random.default_rng(0))
    early = replace(run, series_TV=run.series_TV[:60])
    options = {"noise_pool_V": pool_V, "n_components": 2}
    glm = pushed_glm(run, "ar1", 60, **options)
    assert glm.beta(3).tobytes() == pushed_glm(early, "ar1", **options).beta(3).tobytes()


def test_with_every_option_the_state_goes_on_to_the_same_bits() -> None:
    run, pool_V = noisy_run(np.random.default_rng(0))
    hrf_V = np.random.default_rng(1).integers(0, 20, 100)
    options = {"n_planned": 90, "hrf_V": hrf_V, "noise_pool_V": pool_V, "n_components": 2}
    straight = pushed_glm(run, "ar1", 0, **options)
    restored = straight
    for i in range(90):
        straight.push(run.series_TV[i], run.confounds_TC[i], censored=i in (0, 30))
        if i % 11 == 5 or i == 89:
            state = straight.state()
            restored = StreamingGLM(100, run.tr_s, noise="ar1", **options)
            restored.load_state(state)
            trial = straight.started[len(straight.started) // 2]
            assert restored.beta(trial).tobytes() == straight.beta(trial).tobytes()
            assert restored.estimate(trial).error_V.tobytes() == straight.estimate(trial).error_V.tobytes()
            ours, theirs = (glm.ridge_betas(glm.started, 0.7) for glm in (restored, straight))
            assert ours.tobytes() == theirs.tobytes()
    assert np.array_equal(restored.series(), straight.series())
    assert np.array_equal(restored.series()[1:], run.series_TV[1:])


def test_options_that_make_no_model_are_refused() -> None:
    glm = StreamingGLM(4, 2.0)
    for make in (
        lambda: StreamingGLM(4, 2.0, n_planned=1),
        lambda: StreamingGLM(4, 2.0, hrf_V=np.array([0, 1, 2])),
        lambda: StreamingGLM(4, 2.0, hrf_V=np.array([0, 1, 2, 20])),
        lambda: StreamingGLM(4, 2.0, n_components=2),
        lambda: glm.ridge_betas([], 1.0),
        lambda: glm.ridge_betas([], 0.0),
    ):
        with pytest.raises(BadRequest, match="expected") as raised:
            make()
        assert raised.value.code == "glm.option"


# Slices at their own times


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_a_voxel_measured_later_is_estimated_as_if_the_events_were_earlier(noise: str) -> None:
    rng = np.random.default_rng(0)
    n_voxels, tr_s = 30, 1.5
    lag_V = np.tile([0.0, 0.75, -0.5], 10)
    hrf_V = np.repeat([3, 7], 15)
    y_TV = rng.normal(100.0, 2.0, (60, n_voxels))
    together = StreamingGLM(n_voxels, tr_s, noise=noise, hrf_V=hrf_V, lag_V=lag_V)
    events = [Event(4.0 + 9.0 * k, 2.0, k + 1) for k in range(8)]
    for event in events:
        together.add_event(event)
    for row_V in y_TV:
        together.push(row_V)
    for lag_s in (0.0, 0.75, -0.5):
        for shape in (3, 7):
            own_V = (lag_V == lag_s) & (hrf_V == shape)
            alone = StreamingGLM(int(own_V.sum()), tr_s, noise=noise, hrf_V=hrf_V[own_V])
            for event in events:
                alone.add_event(replace(event, onset_s=event.onset_s - lag_s))
            for row_V in y_TV:
                alone.push(row_V[own_V])
            np.testing.assert_allclose(together.beta(5)[own_V], alone.beta(5), rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(together.betas()[:, own_V], alone.betas(), rtol=1e-5, atol=1e-6)


def test_lags_that_fit_no_voxels_are_refused() -> None:
    for lag_V in (np.zeros(3), np.full(5, 2.0), np.full(5, np.nan)):
        with pytest.raises(BadRequest, match="lag of at most a TR"):
            StreamingGLM(5, 1.5, lag_V=lag_V)
