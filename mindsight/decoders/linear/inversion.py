"""A linear decoder as the inverse of an encoding model: the voxels' responses, their errors, then Bayes' rule.

Knows nothing of networks or images. After Naselaris et al. 2009 (Bayesian reconstruction from an encoding model) and
van Bergen et al. 2015 (noise covariance from residuals). With few trials and a wide latent it keeps more of the latent
than ridge regression; if the errors are mostly common to all voxels, it keeps less. Calibration compares the two on
the subject's own runs; figures are in ``docs/decoders.md``.

Axes: K trials, V voxels, H numbers of the latent, R rank of the trials' latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# weight of the diagonal in the shrunk error covariance; the best of 0.5, 0.7, 0.85, 0.95 and 1 at 300 and 720 trials
_SHRINKAGE = 0.85
_RELATIVE_PENALTIES = np.logspace(-2.0, 3.0, 26)


def invert_encoding(betas_KV: NDArray[Any], latent_KH: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (V, H) and intercept (H,), float32, of the posterior mean of the latent given betas.

    Prior: numbers of the latent are independent, with the variances they have over the K trials. Likelihood: betas are
    linear in the latent (ridge regression, penalty by GCV), errors Gaussian with the covariance of the leave-one-out
    residuals, shrunk to its diagonal.
    """
    betas, latent = np.asarray(betas_KV, np.float64), np.asarray(latent_KH, np.float64)
    varied_H = np.ptp(latent, axis=0) > 0.0
    if not varied_H.all():  # a number that never varied is predicted by its mean
        whole_VH = np.zeros((betas.shape[1], latent.shape[1]), np.float32)
        intercept_H = latent.mean(axis=0).astype(np.float32)
        whole_VH[:, varied_H], intercept_H[varied_H] = invert_encoding(betas, latent[:, varied_H])
        return whole_VH, intercept_H
    mean_V, mean_H = betas.mean(axis=0), latent.mean(axis=0)
    left_KR, lengths_R, right_RH = np.linalg.svd(latent - mean_H, full_matrices=False)
    loads_RV = left_KR.T @ (betas - mean_V)
    penalty = _least_gcv(lengths_R**2, (loads_RV**2).sum(axis=1), float(((betas - mean_V) ** 2).sum()), len(betas))
    kept_R = lengths_R**2 / (lengths_R**2 + penalty)
    response_HV = right_RH.T @ ((lengths_R / (lengths_R**2 + penalty))[:, None] * loads_RV)
    fitted_KV = left_KR @ (kept_R[:, None] * loads_RV)
    error_KV = (betas - mean_V - fitted_KV) / (1.0 - left_KR**2 @ kept_R)[:, None]
    precise_VH = _solve_errors(error_KV, response_HV.T)
    weights_VH = precise_VH @ np.linalg.inv(response_HV @ precise_VH + np.diag(1.0 / latent.var(axis=0)))
    return weights_VH.astype(np.float32), (mean_H - mean_V @ weights_VH).astype(np.float32)


def _solve_errors(error_KV: NDArray[np.float64], right_VH: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shrunk error covariance's inverse times ``right_VH``, through K × K (Woodbury)."""
    diagonal_V = _SHRINKAGE * error_KV.var(axis=0)
    factor_KV = error_KV * np.sqrt((1.0 - _SHRINKAGE) / len(error_KV))
    scaled_KV = factor_KV / diagonal_V
    inner_KK = np.eye(len(error_KV)) + scaled_KV @ factor_KV.T
    solved: NDArray[np.float64] = right_VH / diagonal_V[:, None]
    solved -= scaled_KV.T @ np.linalg.solve(inner_KK, scaled_KV @ right_VH)
    return solved


def _least_gcv(eigenvalues_R: NDArray[np.float64], power_R: NDArray[np.float64], total: float, n_trials: int) -> float:
    """The penalty with the least generalised cross-validation error, common to all voxels."""
    penalties_P = _RELATIVE_PENALTIES * float(eigenvalues_R.mean())
    lost_PR = penalties_P[:, None] / (eigenvalues_R + penalties_P[:, None])
    residual_P = (lost_PR**2) @ power_R + max(total - float(power_R.sum()), 0.0)
    freedom_P = n_trials - 1 - eigenvalues_R.size + lost_PR.sum(axis=1)
    return float(penalties_P[int(np.argmin(residual_P / freedom_P**2))])
