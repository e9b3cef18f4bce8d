"""Errors along what images evoke: fitted, and more of the image told than by errors without that part."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.decoders.linear import structured
from mindsight.decoders.linear.inversion import inverted_encoding
from mindsight.decoders.linear.structured import _Model, structured_encoding

V, H, SHARED = 500, 16, 10
N_CANDIDATES = 100


class Person:
    """Voxels that respond to a latent; trials deviate along the responses, along three patterns and by themselves."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.response_HV = rng.normal(size=(H, V))
        self.error_RV = np.concatenate([rng.normal(size=(SHARED, V)), self.response_HV])
        self.own_V = 8.0 * rng.lognormal(0.0, 0.3, V)

    def trials(self, latent_KH: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(seed)
        common_KV = rng.normal(size=(len(latent_KH), len(self.error_RV))) @ self.error_RV
        return latent_KH @ self.response_HV + common_KV + rng.normal(size=(len(latent_KH), V)) * self.own_V

    @property
    def error_VV(self) -> NDArray[np.float64]:
        return np.diag(self.own_V**2) + self.error_RV.T @ self.error_RV


def latents(seed: int, n: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, H))


def log_likelihood(model: _Model, betas_KV: NDArray[np.float64], seen_KQ: NDArray[np.float64]) -> float:
    covariance = covariance_of(model)
    left = betas_KV - seen_KQ @ model.response_QV
    _, logdet = np.linalg.slogdet(covariance)
    return float(-0.5 * (np.einsum("kv,kv->", left, np.linalg.solve(covariance, left.T).T) + len(left) * logdet))


def covariance_of(model: _Model) -> NDArray[np.float64]:
    variable = model.variable * model.response_QV.T @ model.response_QV
    return np.diag(model.noise_V) + variable + model.shared_SV.T @ model.shared_SV


def test_no_round_makes_the_betas_less_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "_PENALTY", 0.0)
    latent = latents(1, 200)
    betas, seen = Person().trials(latent, 2), latent - latent.mean(0)
    betas -= betas.mean(0)
    model = _Model._from_residuals(betas, seen)
    found = [log_likelihood(model, betas, seen)]
    for _ in range(15):
        model._improve(betas, seen)
        found.append(log_likelihood(model, betas, seen))
    assert np.diff(found).min() > -1e-9 * abs(found[0])
    assert found[-1] > found[0]


def test_the_readout_is_bayes_rule_written_out() -> None:
    latent = latents(1, 150)
    betas, seen = Person().trials(latent, 2), latent - latent.mean(0)
    model = _Model.fitted(betas - betas.mean(0), seen)
    precise = np.linalg.solve(covariance_of(model), model.response_QV.T)
    expected = precise @ np.linalg.inv(np.eye(H) + model.response_QV @ precise)
    np.testing.assert_allclose(model.posterior_VQ(), expected, rtol=1e-9, atol=1e-12)


def identified(scores_KN: NDArray[np.float64], shown_K: NDArray[np.intp]) -> float:
    return float((scores_KN.argmax(axis=1) == shown_K).mean())


def test_more_is_identified_than_without_the_part_along_the_responses_and_nearly_what_can_be() -> None:
    """Of 100 candidates, 2,000 trials: standard errors are about 0.01."""
    person, latent, candidates = Person(), latents(1, 600), latents(3, N_CANDIDATES)
    betas = person.trials(latent, 2)
    shown_K = np.tile(np.arange(N_CANDIDATES), 20)
    seen = person.trials(candidates[shown_K], 4)
    precise = np.linalg.solve(person.error_VV, person.response_HV.T)
    best = seen @ precise @ candidates.T - 0.5 * np.einsum(
        "nh,nh->n", candidates @ (person.response_HV @ precise), candidates
    )
    found = {
        "best": identified(best, shown_K),
        "plain": identified(_cosines(inverted_encoding(betas, latent).predict(seen), candidates), shown_K),
        "structured": identified(
            _cosines(structured_encoding(betas, latent, 0.99, whitened=True).predict(seen), candidates), shown_K
        ),
    }
    assert found["structured"] > found["plain"] + 0.005
    assert found["structured"] > 0.9 * found["best"]


def _cosines(predicted_KH: NDArray[np.float32], candidates_NH: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(predicted_KH @ (candidates_NH / np.linalg.norm(candidates_NH, axis=1, keepdims=True)).T)


def test_whitened_predictions_lie_in_the_same_directions_and_are_as_large() -> None:
    latent = latents(1, 200) * np.geomspace(2.0, 0.5, H)
    betas = Person().trials(latent, 2)
    plain, whitened = (structured_encoding(betas, latent, 0.999, whitened=each) for each in (False, True))
    np.testing.assert_array_equal(plain.left_VR, whitened.left_VR)
    along = np.linalg.norm(whitened.right_RH, axis=1)
    np.testing.assert_allclose(along, along[0])
    assert (whitened.right_RH**2).sum() == pytest.approx((plain.right_RH**2).sum())


def test_voxels_that_never_vary_and_few_trials_give_finite_numbers() -> None:
    latent = latents(1, 12)
    betas = Person().trials(latent, 2)
    betas[:, 5] = 3.0
    readout = structured_encoding(betas, latent, 0.95)
    assert np.isfinite(readout.predict(betas)).all()
    assert np.abs(readout.weights_VH[5]).max() < 1e-9
