"""The closed-form layer: equal to Bayes' rule written out, and better than ridge regression where trials are few."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.inversion import invert_encoding

V, H = 60, 12


def trials(seed: int, n: int, noise: float = 2.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Betas of the same invented voxels, with errors that neighbours share, and latents of falling variance."""
    voxels, rng = np.random.default_rng(0), np.random.default_rng(seed)
    latent_KH = rng.normal(size=(n, H)) * np.geomspace(2.0, 0.3, H)
    response_HV, shared_EV = voxels.normal(size=(H, V)), voxels.normal(size=(3, V))
    error_KV = rng.normal(size=(n, V)) + rng.normal(size=(n, 3)) @ shared_EV
    return latent_KH @ response_HV + noise * error_KV, latent_KH


def written_out(betas: NDArray[np.float64], latent: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """The posterior's weights with every matrix in full, leave-one-out residuals from refitting without the trial."""
    b, z = betas - betas.mean(0), latent - latent.mean(0)

    def fit(keep: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.linalg.solve(z[keep].T @ z[keep] + penalty * np.eye(H), z[keep].T @ b[keep])

    n = len(b)
    errors = np.stack([b[k] - z[k] @ fit(np.delete(np.arange(n), k)) for k in range(n)])
    covariance = 0.15 * errors.T @ errors / n + 0.85 * np.diag(errors.var(0))
    response = fit(np.arange(n))
    signal = response @ np.linalg.inv(covariance)
    return signal.T @ np.linalg.inv(signal @ response.T + np.diag(1 / z.var(0)))


def test_equals_bayes_rule_written_out() -> None:
    betas, latent = trials(1, 40)
    weights, intercept = invert_encoding(betas, latent)
    steps = np.logspace(-2.0, 3.0, 26) * (np.linalg.svd(latent - latent.mean(0))[1] ** 2).mean()
    differences = [np.abs(written_out(betas, latent, penalty) - weights).max() for penalty in steps]
    assert min(differences) < 1e-6 * np.abs(weights).max()
    np.testing.assert_allclose(intercept, latent.mean(0) - betas.mean(0) @ weights, atol=1e-5)


def shared_variance(predicted: NDArray[np.float64], latent: NDArray[np.float64]) -> float:
    """Share of the latent's variance that a linear readout, number by number, gets from the prediction."""
    p, z = predicted - predicted.mean(0), latent - latent.mean(0)
    explained = (p * z).sum(0) ** 2 / (p**2).sum(0)
    return float(explained.sum() / (z**2).sum())


@pytest.mark.parametrize("n", [60, 120])
def test_keeps_more_of_the_latent_than_ridge_regression_where_trials_are_few(n: int) -> None:
    rng = np.random.default_rng(4)
    response_HV = rng.normal(size=(80, 400)) / 8

    def many(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        latent = rng.normal(size=(n, 80)) * np.geomspace(2.0, 0.2, 80)
        return latent @ response_HV + rng.normal(size=(n, 400)), latent

    (betas, latent), (test_betas, test_latent) = many(n), many(500)
    weights, intercept = invert_encoding(betas, latent)
    inverted = shared_variance(test_betas @ weights + intercept, test_latent)
    ridge = shared_variance(LinearDecoder.fit(betas, latent).predict(test_betas), test_latent)
    assert inverted > ridge + 0.02
