"""Participants whose single-trial betas have errors of a known distribution, so that the best decoder is known.

Knows nothing of scanners or models. An image is a few hidden factors. Voxels respond linearly to these; an encoder's
tokens are a fixed non-linear function of them, the same for every participant.

Letters: N images, V voxels, K trials, F factors, R factors of the errors, T tokens, D channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

N_TOKENS, DIM, N_FACTORS = 4, 64, 32
_SHARED = 20  # factors of the errors that voxels have in common


def factors(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """(n, F) of different images."""
    return rng.normal(size=(n, N_FACTORS))


def look_alikes(rng: np.random.Generator, n_families: int, n_each: int, apart: float = 0.3) -> NDArray[np.float64]:
    """(n_families * n_each, F) factors of images that look alike, family by family.

    apart : variance within a family, over that among all images
    """
    shared = np.repeat(factors(rng, n_families), n_each, axis=0)
    return np.asarray(np.sqrt(1.0 - apart) * shared + np.sqrt(apart) * factors(rng, len(shared)))


def tokens_of(factors_NF: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, T, D) tokens, each of mean 0 and variance 1 over its channels, as an encoder's last normalisation gives."""
    mapping_FX = np.random.default_rng(13).normal(size=(N_FACTORS, N_TOKENS * DIM)) / np.sqrt(N_FACTORS)
    raw_NTD = np.tanh(0.75 * factors_NF @ mapping_FX).reshape(-1, N_TOKENS, DIM)
    raw_NTD -= raw_NTD.mean(axis=2, keepdims=True)
    return np.asarray(raw_NTD / raw_NTD.std(axis=2, keepdims=True), np.float32)


class CohortSubject:
    """A participant, and the errors of betas: of each voxel, common to many, and along what images evoke.

    Errors are Gaussian with covariance diag(d) + Rᵀ R. The last kind is as if the participant had seen a slightly
    different image each time: no number of voxels averages it away.

    own : standard deviation of a voxel's own error, over that of its responses to images
    shared, variable : of the errors that voxels have in common, and of those along what images evoke, likewise
    silent : share of voxels that respond to no image
    """

    def __init__(
        self,
        seed: int,
        n_voxels: int,
        own: float = 2.0,
        shared: float = 1.0,
        variable: float = 1.0,
        silent: float = 0.25,
    ) -> None:
        rng = np.random.default_rng([seed, 12])
        # factors differ in how much of the cortex they drive, in every participant alike
        weights_FV = rng.normal(size=(N_FACTORS, n_voxels)) * np.geomspace(1.0, 0.3, N_FACTORS)[:, None]
        weights_FV /= np.sqrt((weights_FV**2).sum(axis=0))
        self._own_V = own * rng.lognormal(0.0, 0.25, n_voxels)
        common_RV = shared / np.sqrt(_SHARED) * rng.normal(size=(_SHARED, n_voxels))
        weights_FV[:, rng.random(n_voxels) < silent] = 0.0
        self.weights_FV = weights_FV
        self._error_RV = np.concatenate([common_RV, variable * weights_FV])

    def responses(self, factors_NF: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, V) betas without errors; of standard deviation 1 over images, or 0."""
        return np.asarray(factors_NF @ self.weights_FV)

    def measure(self, factors_KF: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        """(K, V) single-trial betas of trials that showed these images."""
        true_KV = self.responses(factors_KF)
        own_KV = rng.normal(size=true_KV.shape) * self._own_V
        common_KV = rng.normal(size=(len(true_KV), len(self._error_RV))) @ self._error_RV
        return np.asarray(true_KV + own_KV + common_KV, np.float32)

    def log_likelihood(self, betas_KV: NDArray[Any], factors_NF: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, N) of each candidate, up to a constant for each trial. If candidates are equally likely, no decoder of
        single betas is right more often than the highest of these.
        """
        scaled_RV = self._error_RV / self._own_V
        inner_RR = np.eye(len(scaled_RV)) + scaled_RV @ scaled_RV.T
        expected_NV, seen_KV = (each / self._own_V for each in (self.responses(factors_NF), betas_KV))
        precise_NV = expected_NV - np.linalg.solve(inner_RR, scaled_RV @ expected_NV.T).T @ scaled_RV
        power_N = np.einsum("nv,nv->n", precise_NV, expected_NV)
        return np.asarray(seen_KV @ precise_NV.T - 0.5 * power_N)

    @property
    def signal_share_V(self) -> NDArray[np.float64]:
        """(V,) share of the variance of single betas that is the images': the noise ceiling of explained variance."""
        signal_V = (self.weights_FV**2).sum(axis=0)
        return np.asarray(signal_V / (signal_V + self._own_V**2 + (self._error_RV**2).sum(axis=0)))

    @property
    def error_VV(self) -> NDArray[np.float64]:
        """(V, V) covariance of the errors."""
        return np.asarray(np.diag(self._own_V**2) + self._error_RV.T @ self._error_RV)
