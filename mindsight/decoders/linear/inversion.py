"""A linear decoder as the inverse of an encoding model: the voxels' responses, their errors, then Bayes' rule.

Knows nothing of networks or images. After Naselaris et al. 2009 (Bayesian reconstruction from an encoding model) and
van Bergen et al. 2015 (noise covariance from residuals). With few trials and a wide latent it keeps more of the latent
than ridge regression; if the errors are mostly common to all voxels, it keeps less. Calibration compares the two on
the subject's own runs; figures are in ``docs/decoders.md``.

Axes: K trials, V voxels, H numbers of the latent, R rank of the trials' latents, P penalties.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.linear.readout import Readout

# weight of the diagonal in the shrunk error covariance; the best of 0.5, 0.7, 0.85, 0.95 and 1 at 300 and 720 trials
_SHRINKAGE = 0.85
_RELATIVE_PENALTIES = np.logspace(-2.0, 3.0, 26)


def invert_encoding(betas_KV: NDArray[Any], latent_KH: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (V, H) and intercept (H,), float32, see ``inverted_encoding``."""
    readout = inverted_encoding(np.asarray(betas_KV, np.float64), latent_KH)
    return readout.weights_VH.astype(np.float32), readout.intercept_H.astype(np.float32)


def inverted_encoding(betas_KV: NDArray[Any], latent_KH: NDArray[Any], diagonal: float = _SHRINKAGE) -> Readout:
    """The posterior mean of the latent given betas.

    Prior: numbers of the latent are independent, with the variances they have over the K trials. Likelihood: betas are
    linear in the latent (ridge regression, penalty by GCV), errors Gaussian with the covariance of the leave-one-out
    residuals, shrunk to its diagonal. Only products over voxels are as precise as ``betas_KV``, all else is float64.

    With fewer trials than numbers, all that a response can be lies in the R directions of the trials' latents, and no
    matrix (H, H) is needed: B = A P for P (R, H) of orthonormal rows, and the weights S⁻¹ Bᵀ (B S⁻¹ Bᵀ + D⁻¹)⁻¹ are
    S⁻¹ Aᵀ (1 + Q M)⁻¹ P D for Q = P D Pᵀ, M = A S⁻¹ Aᵀ.

    diagonal : weight of the diagonal in the shrunk error covariance, 0 to 1 (not 0)
    """
    latent = np.asarray(latent_KH, np.float64)
    mean_V, mean_H = betas_KV.mean(axis=0), latent.mean(axis=0)
    prior_H = latent.var(axis=0)
    centred_KV = betas_KV - mean_V
    left_KR, lengths_R, right_RH = directions(latent - mean_H)
    loads_RV = left_KR.astype(betas_KV.dtype).T @ centred_KV
    total = float(np.einsum("kv,kv->", centred_KV, centred_KV, dtype=np.float64))
    power_R = np.einsum("rv,rv->r", loads_RV, loads_RV, dtype=np.float64)
    penalty = _least_gcv(lengths_R**2, power_R, total, len(betas_KV))
    kept_R = lengths_R**2 / (lengths_R**2 + penalty)
    leverage_K = left_KR**2 @ kept_R
    error_KV = centred_KV - (left_KR * kept_R).astype(betas_KV.dtype) @ loads_RV
    error_KV /= (1.0 - leverage_K).astype(betas_KV.dtype)[:, None]
    response_RV = (lengths_R / (lengths_R**2 + penalty)).astype(betas_KV.dtype)[:, None] * loads_RV
    precise_VR = _solve_errors(error_KV, response_RV.T, diagonal)
    spread_RH = right_RH * prior_H
    inner_RR = np.eye(len(lengths_R)) + (spread_RH @ right_RH.T) @ (response_RV @ precise_VR).astype(np.float64)
    shrunk_RH = np.linalg.solve(inner_RR, spread_RH)
    seen_R = (mean_V @ precise_VR).astype(np.float64)
    return Readout(precise_VR, shrunk_RH, mean_H - seen_R @ shrunk_RH)


def directions(
    latent_KH: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular vectors and values of centred latents, largest first and none that is zero: (K, R), (R,), (R, H)."""
    values, vectors_KK = np.linalg.eigh(latent_KH @ latent_KH.T)
    kept = values > max(latent_KH.shape) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    left_KR, lengths_R = vectors_KK[:, kept][:, ::-1], np.sqrt(values[kept][::-1])
    return left_KR, lengths_R, (left_KR.T @ latent_KH) / lengths_R[:, None]


def _solve_errors(error_KV: NDArray[Any], right_VR: NDArray[Any], diagonal: float) -> NDArray[Any]:
    """The shrunk error covariance's inverse times ``right_VR``, through K × K (Woodbury)."""
    variance_V = error_KV.var(axis=0)
    # a voxel without errors is one that never varies: it tells nothing, and must not divide by zero
    diagonal_V = diagonal * np.where(variance_V > 0.0, variance_V, 1.0)
    factor_KV = error_KV * np.asarray(np.sqrt((1.0 - diagonal) / len(error_KV)), error_KV.dtype)
    scaled_KV = factor_KV / diagonal_V
    inner_KK = np.eye(len(error_KV)) + (scaled_KV @ factor_KV.T).astype(np.float64)
    solved_VR: NDArray[Any] = right_VR / diagonal_V[:, None]
    inner_KR = np.linalg.solve(inner_KK, (scaled_KV @ right_VR).astype(np.float64))
    solved_VR -= scaled_KV.T @ inner_KR.astype(error_KV.dtype)
    return solved_VR


def _least_gcv(eigenvalues_R: NDArray[np.float64], power_R: NDArray[np.float64], total: float, n_trials: int) -> float:
    """The penalty with the least generalised cross-validation error, common to all voxels."""
    penalties_P = _RELATIVE_PENALTIES * float(eigenvalues_R.mean())
    lost_PR = penalties_P[:, None] / (eigenvalues_R + penalties_P[:, None])
    residual_P = (lost_PR**2) @ power_R + max(total - float(power_R.sum()), 0.0)
    freedom_P = n_trials - 1 - eigenvalues_R.size + lost_PR.sum(axis=1)
    return float(penalties_P[int(np.argmin(residual_P / freedom_P**2))])
