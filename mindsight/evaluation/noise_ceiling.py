"""The noise ceiling of single trials, from repeats of images: which part of a beta's variance is the image's.

One-way analysis of variance over images (P. E. Shrout, J. L. Fleiss, Psychol. Bull. 86, 1979: ICC(1)); the ceiling of
NSD's single trials is the same share (E. J. Allen et al., Nat. Neurosci. 25, 2022). Knows nothing of decoders. K
trials, V voxels, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from mindsight.accuracy import Accuracy
from mindsight.evaluation.calibration_record import NoiseCeiling
from mindsight.evaluation.metrics.similarity import cosine_matrix

_LEVEL = 0.01


def noise_ceiling(
    z_KV: NDArray[np.float32], image_K: NDArray[Any], run_K: NDArray[np.integer[Any]]
) -> tuple[NoiseCeiling, NDArray[np.float32]] | None:
    """The ceiling, and (V,) each voxel's share of single-trial variance that is the image's: unbiased, so below 0 in
    about half of the voxels without any; NaN in silent voxels. None if no image was shown twice.

    z_KV : betas, z-scored by run
    """
    _, index_K, count_I = np.unique(image_K, return_inverse=True, return_counts=True)
    repeated_K = count_I[index_K] > 1
    if not repeated_K.any() or (count_I > 1).sum() < 2:
        return None
    share_V, f_V, degrees = _analysis_of_variance(z_KV[repeated_K].astype(np.float64), index_K[repeated_K])
    known_V = np.isfinite(share_V)
    held = share_V[known_V]
    ceiling = NoiseCeiling(
        images=int((count_I > 1).sum()),
        trials=int(repeated_K.sum()),
        signal_share_median=float(np.median(held)) if len(held) else 0.0,
        signal_share_p90=float(np.quantile(held, 0.9)) if len(held) else 0.0,
        reliable_voxels=int((f_V[known_V] > f_distribution.isf(_LEVEL, *degrees)).sum()),
        voxels=int(known_V.sum()),
        identified=identified_by_repeats(z_KV, index_K, run_K),
    )
    return ceiling, share_V.astype(np.float32)


def _analysis_of_variance(
    z_KV: NDArray[np.float64], index_K: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """(V,) ICC(1), (V,) F, and the degrees of freedom, of K trials that each have a repeat."""
    _, index_K, count_I = np.unique(index_K, return_inverse=True, return_counts=True)
    n_images, n_trials = len(count_I), len(index_K)
    sum_IV = np.zeros((n_images, z_KV.shape[1]))
    np.add.at(sum_IV, index_K, z_KV)
    mean_V = z_KV.mean(axis=0)
    mean_IV = sum_IV / count_I[:, None]
    between_V = (count_I[:, None] * (mean_IV - mean_V) ** 2).sum(axis=0) / (n_images - 1)
    within_V = ((z_KV**2).sum(axis=0) - (count_I[:, None] * mean_IV**2).sum(axis=0)).clip(0.0) / (n_trials - n_images)
    typical = (n_trials - (count_I**2).sum() / n_trials) / (n_images - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_V = (between_V - within_V) / (between_V + (typical - 1.0) * within_V)
        f_V = between_V / within_V
    share_V[between_V + within_V <= 1e-12] = np.nan
    return share_V, f_V, (n_images - 1, n_trials - n_images)


def identified_by_repeats(
    z_KV: NDArray[np.float32], index_K: NDArray[np.integer[Any]], run_K: NDArray[np.integer[Any]]
) -> Accuracy | None:
    """How often a trial is nearest (by correlation) to the mean of its own image over the other runs, among the means
    of all images that these runs showed. None if no image was shown in two runs.
    """
    centred_KV = z_KV - z_KV.mean(axis=1, keepdims=True)
    parts: list[Accuracy] = []
    for run in np.unique(run_K):
        elsewhere = run_K != run
        known = np.unique(index_K[elsewhere])
        tested = (run_K == run) & np.isin(index_K, known)
        if len(known) < 2 or not tested.any():
            continue
        means_IV = np.stack([centred_KV[elsewhere & (index_K == image)].mean(axis=0) for image in known])
        nearest_K = known[np.argmax(cosine_matrix(centred_KV[tested], means_IV), axis=1)]
        parts.append(Accuracy(int((nearest_K == index_K[tested]).sum()), int(tested.sum()), 1.0 / len(known)))
    return _sum(parts)


def _sum(parts: Sequence[Accuracy]) -> Accuracy | None:
    return sum(parts[1:], parts[0]) if parts else None
