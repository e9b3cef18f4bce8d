"""How the linear decoder is fitted, and from where candidates are seen: by what runs left out say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.accuracy import top_k
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.inversion import invert_encoding
from mindsight.retrieval import CandidatePool, cosine_scores, fit_temperature
from training.calibration.linear_choice import HeldOut, RunTrials, choose_linear, fit_linear, leave_one_run_out

N, D, V = 30, 40, 120


def pool(shared: float, n: int = N) -> CandidatePool:
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(n, D)) + shared * rng.normal(size=D)
    return CandidatePool(tuple(f"c{i}" for i in range(n)), embeddings.astype(np.float32))


def runs(of: CandidatePool, noise: float, common: float, seed: int = 0, signal: float = 1.0) -> list[RunTrials]:
    """Four runs that show every candidate once, and betas with errors of their own and errors that voxels share."""
    rng = np.random.default_rng(seed)
    loads_DV, shared_CV = rng.normal(size=(D, V)) / np.sqrt(D), rng.normal(size=(2, V))
    e = of.embeddings - of.embeddings.mean(axis=0)
    made = []
    for _ in range(4):
        shown = rng.permutation(N)
        errors = noise * rng.normal(size=(N, V)) + common * rng.normal(size=(N, 2)) @ shared_CV
        betas = signal * e[shown] @ loads_DV + errors
        made.append(RunTrials(((betas - betas.mean(0)) / betas.std(0)).astype(np.float32), shown))
    return made


@pytest.mark.slow
def test_an_inverted_encoding_model_and_the_mean_embedding_where_they_help() -> None:
    candidates = pool(shared=3.0)
    trials = runs(candidates, noise=2.0, common=1.0)
    chosen, usual = (f(trials, candidates, np.random.default_rng(0)) for f in (choose_linear, leave_one_run_out))
    assert (chosen.method, chosen.centred) == ("inversion", True)
    assert chosen.calibration.centred
    assert chosen.accuracy.value > usual.accuracy.value + 0.1
    # and on a fifth run that took no part in the choice
    more = runs(candidates, noise=2.0, common=1.0, seed=0)
    fresh = RunTrials(more[0].z_KV, more[0].shown_K)
    decoder = fit_linear(trials[1:], candidates, chosen.method)
    seen = cosine_scores(decoder.predict(fresh.z_KV), candidates, decoder.origin)
    right = fresh.shown_K[:, None] == np.arange(N)
    plain = cosine_scores(fit_linear(trials[1:], candidates).predict(fresh.z_KV), candidates)
    assert top_k(seen, right, 1).value > top_k(plain, right, 1).value


@pytest.mark.slow
def test_where_there_is_nothing_to_gain_it_stays_ridge_from_zero() -> None:
    candidates = pool(shared=0.0)
    chosen = choose_linear(runs(candidates, noise=1.0, common=0.0, signal=0.0), candidates, np.random.default_rng(0))
    assert (chosen.method, chosen.centred) == ("ridge", False)
    assert chosen.accuracy.interval[0] <= 1 / N


def test_scores_are_the_lengths_along_the_candidates() -> None:
    candidates, rng = pool(shared=2.0), np.random.default_rng(0)
    trials = runs(candidates, noise=2.0, common=1.0)
    chosen = choose_linear(trials, candidates, rng)
    decoder = fit_linear(trials[1:], candidates, chosen.method)
    e = candidates.embeddings.astype(np.float64) - decoder.origin
    expected = (decoder.predict(trials[0].z_KV) - decoder.origin) @ e.T / np.linalg.norm(e, axis=1)
    np.testing.assert_allclose(chosen.scores_KN[:N], expected, atol=1e-4)
    assert chosen.calibration.score == "projection"
    assert chosen.calibration.null_n == len(chosen.null_MN) == 20 * 4 * N


def test_log_losses_are_of_the_probabilities(rng: np.random.Generator) -> None:
    right = np.eye(5, dtype=bool)[rng.integers(0, 5, 40)]
    held = HeldOut((right + rng.normal(size=(40, 5))).astype(np.float32), right, np.zeros((3, 5), np.float32))
    fitted = fit_temperature(held.scores_KN, right, held.null_MN, doubt=0.0)
    assert held.log_loss_K.mean() == pytest.approx(fitted.log_loss, rel=1e-6)
    assert fitted.log_loss <= held.calibration.log_loss


def test_an_inversion_ignores_what_never_varied(rng: np.random.Generator) -> None:
    latent = rng.normal(size=(60, 4))
    latent[:, 2] = 7.0
    betas = latent @ rng.normal(size=(4, 30)) + 0.1 * rng.normal(size=(60, 30))
    weights, intercept = invert_encoding(betas, latent)
    kept = invert_encoding(betas, np.delete(latent, 2, axis=1))
    np.testing.assert_allclose(np.delete(weights, 2, axis=1), kept[0], rtol=1e-4, atol=1e-6)
    assert not weights[:, 2].any()
    assert intercept[2] == pytest.approx(7.0)


def test_an_inverted_decoder_is_kept_like_any_other(tmp_path: Path) -> None:
    candidates = pool(shared=1.0)
    decoder = fit_linear(runs(candidates, 1.0, 0.5), candidates, "inversion")
    decoder.save(tmp_path)
    again = LinearDecoder.load(tmp_path)
    assert np.isnan(again.penalty)
    np.testing.assert_array_equal(again.weights_VD, decoder.weights_VD)
    np.testing.assert_array_equal(again.origin, decoder.intercept_D)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
