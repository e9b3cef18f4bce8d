"""An encoding model with errors of three kinds, inverted: of a voxel, shared by many, along what images evoke.

The last kind is as if a trial had shown a slightly different image. No inverse of a shrunk covariance finds it, because
it lies where the responses lie: here responses and errors are fitted together, by expectation and maximisation of

    beta_k = W (x_k + e_k) + L u_k + noise,    e_k ~ N(0, c),  u_k ~ N(0, 1),  noise ~ N(0, diag(d))

with x the latent along its largest directions, in units of their standard deviations. After A. Rubin and D. Thayer,
Psychometrika 47, 1982 (factor analysis by EM); that errors of single trials lie along responses: K. Kay et al., PLOS
Computational Biology 2025 (generative modelling of signal and noise).

Knows nothing of networks or images. Axes: K trials, V voxels, H numbers of the latent, Q directions of the latent, S
shared patterns, G = Q + S.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.linear.inversion import directions
from mindsight.decoders.linear.readout import Readout

_ROUNDS = 20
_PENALTY = 1.0  # trials that each response and pattern is drawn to zero by
_LEAST_NOISE = 0.01  # of a voxel's variance


def structured_encoding(
    betas_KV: NDArray[Any], latent_KH: NDArray[Any], share: float, *, whitened: bool = False
) -> Readout:
    """The posterior mean of the latent given z-scored betas, along the directions with ``share`` of its variance.

    whitened : give every direction the same weight, in place of its standard deviation. Projections of candidates then
        rank them nearly by their likelihood; lengths are no longer those of latents
    """
    latent = np.asarray(latent_KH, np.float64)
    mean_V, mean_H = betas_KV.mean(axis=0, dtype=np.float64), latent.mean(axis=0)
    left_KR, lengths_R, right_RH = directions(latent - mean_H)
    power_R = lengths_R**2
    n = min(int(np.searchsorted(np.cumsum(power_R), share * power_R.sum())) + 1, max(1, len(latent) // 3))
    seen_KQ = np.sqrt(len(latent)) * left_KR[:, :n]
    model = _Model.fitted(np.asarray(betas_KV, np.float64) - mean_V, seen_KQ)
    weights_VQ = model.posterior_VQ()
    spread_Q = lengths_R[:n] / np.sqrt(len(latent))
    if whitened:
        spread_Q = np.full(n, np.sqrt((spread_Q**2).mean()))
    right_QH = spread_Q[:, None] * right_RH[:n]
    return Readout(weights_VQ, right_QH, mean_H - (mean_V @ weights_VQ) @ right_QH)


@dataclass
class _Model:
    """response_QV, shared_SV : W and L; noise_V : d; variable : c, over the variance of the images'"""

    response_QV: NDArray[np.float64]
    shared_SV: NDArray[np.float64]
    noise_V: NDArray[np.float64]
    variable: float = 1.0

    @classmethod
    def fitted(cls, betas_KV: NDArray[np.float64], seen_KQ: NDArray[np.float64]) -> _Model:
        model = cls._from_residuals(betas_KV, seen_KQ)
        for _ in range(_ROUNDS):
            model._improve(betas_KV, seen_KQ)
        return model

    @classmethod
    def _from_residuals(cls, betas_KV: NDArray[np.float64], seen_KQ: NDArray[np.float64]) -> _Model:
        """Responses by ridge regression; shared patterns are the largest of what that leaves beside the responses."""
        inner_QQ = seen_KQ.T @ seen_KQ + _PENALTY * np.eye(seen_KQ.shape[1])
        response_QV = np.asarray(np.linalg.solve(inner_QQ, seen_KQ.T @ betas_KV), np.float64)
        left_KV = betas_KV - seen_KQ @ response_QV
        variance_V = np.maximum((left_KV**2).mean(axis=0), _LEAST_NOISE)
        left_KV /= np.sqrt(variance_V)
        basis_VQ, _ = np.linalg.qr((response_QV / np.sqrt(variance_V)).T)
        beside_KV = left_KV - (left_KV @ basis_VQ) @ basis_VQ.T
        values_K, vectors_KK = np.linalg.eigh(beside_KV @ beside_KV.T / len(betas_KV))
        n_shared = _above_chance(values_K, beside_KV)
        patterns_SV = vectors_KK[:, len(values_K) - n_shared :].T @ left_KV
        patterns_SV /= np.linalg.norm(patterns_SV, axis=1, keepdims=True)
        sizes_S = 0.5 * np.sqrt(values_K[len(values_K) - n_shared :])
        shared_SV = sizes_S[:, None] * patterns_SV * np.sqrt(variance_V)
        return cls(response_QV, shared_SV, 0.8 * variance_V)

    def _improve(self, betas_KV: NDArray[np.float64], seen_KQ: NDArray[np.float64]) -> None:
        """One round: what each trial's deviations probably were, then all parts by regression on them."""
        n, n_directions = seen_KQ.shape
        parts_GV = np.concatenate([self.response_QV, self.shared_SV])
        precise_GV = parts_GV / self.noise_V
        prior_G = np.r_[np.full(n_directions, self.variable), np.ones(len(self.shared_SV))]
        spread_GG = np.linalg.inv(np.diag(1.0 / prior_G) + precise_GV @ parts_GV.T)
        mean_KG = (betas_KV - seen_KQ @ self.response_QV) @ precise_GV.T @ spread_GG
        power_G = n * np.diag(spread_GG) + (mean_KG**2).sum(axis=0)
        mean_KG[:, :n_directions] += seen_KQ
        moment_GG = mean_KG.T @ mean_KG + n * spread_GG
        cross_GV = mean_KG.T @ betas_KV
        parts_GV = np.linalg.solve(moment_GG + _PENALTY * np.eye(len(moment_GG)), cross_GV)
        explained_V = 2.0 * (cross_GV * parts_GV).sum(axis=0) - (parts_GV * (moment_GG @ parts_GV)).sum(axis=0)
        self.noise_V = np.maximum(((betas_KV**2).sum(axis=0) - explained_V) / n, _LEAST_NOISE)
        self.response_QV, self.shared_SV = parts_GV[:n_directions], parts_GV[n_directions:]
        self.variable = float(power_G[:n_directions].mean() / n)

    def posterior_VQ(self) -> NDArray[np.float64]:
        """Weights that give the latent's posterior mean, for a prior of variance 1: S⁻¹ Wᵀ (1 + W S⁻¹ Wᵀ)⁻¹ with S the
        covariance of all errors, inverted through its few parts (Woodbury).
        """
        errors_GV = np.concatenate([np.sqrt(self.variable) * self.response_QV, self.shared_SV])
        precise_VG = (errors_GV / self.noise_V).T
        solved_VQ = (self.response_QV / self.noise_V).T
        inner_GG = np.eye(len(errors_GV)) + errors_GV @ precise_VG
        solved_VQ -= precise_VG @ np.linalg.solve(inner_GG, errors_GV @ solved_VQ)
        weights_VQ: NDArray[np.float64] = solved_VQ @ np.linalg.inv(
            np.eye(len(self.response_QV)) + self.response_QV @ solved_VQ
        )
        return weights_VQ


def _above_chance(values_K: NDArray[np.float64], series_KV: NDArray[np.float64]) -> int:
    """How many eigenvalues are larger than any of voxels whose trials are shuffled, each on its own (Horn 1965)."""
    shuffled_KV = np.random.default_rng(0).permuted(series_KV, axis=0)
    largest = np.linalg.eigvalsh(shuffled_KV @ shuffled_KV.T / len(shuffled_KV))[-1]
    return int(min((values_K > largest).sum(), len(series_KV) // 5))
