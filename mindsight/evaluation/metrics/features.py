"""Metrics in the feature space of a network: two-way identification, and correlation distance.

Knows nothing of networks. Letters: K images, D features, flattened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.metric import Metric, Score
from mindsight.evaluation.metrics.similarity import correlation_matrix, row_correlations


def two_way_identification(metric: Metric, images_KD: NDArray[Any], recons_KD: NDArray[Any]) -> Score:
    """How often a reconstruction is closer to its own image than to another image of the test set.

    For each reconstruction, the share of the K - 1 other *images* whose features correlate less with it than those of
    its own image: so computed by the published evaluation of MindEye2 (Scotti et al. 2024), whose text compares with
    other reconstructions. Equal correlations count as misses. Chance is one half; a perfect score is exactly 1.
    """
    n = len(images_KD)
    if n < 2 or len(recons_KD) != n:
        raise BadRequest(
            f"expected one reconstruction of each of at least two images, got {len(recons_KD)} of {n}",
            code="features.count",
        )
    r_KK = correlation_matrix(images_KD, recons_KD)
    return Score(metric, (r_KK < np.diag(r_KK)).sum(axis=0) / (n - 1))


def feature_distance(metric: Metric, images_KD: NDArray[Any], recons_KD: NDArray[Any]) -> Score:
    """One minus the correlation between the features of image and reconstruction: lower is better."""
    return Score(metric, 1.0 - row_correlations(images_KD, recons_KD))
