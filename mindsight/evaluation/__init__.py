"""How good it is, with what chance would give beside it; and the published metrics, by their protocol.

Knows nothing of how the answers came about.
"""

from mindsight.evaluation.accuracy import (
    Accuracy,
    rolling_accuracy,
    shuffled_labels,
    top_k,
    wilson_interval,
)
from mindsight.evaluation.brain import brain_correlation
from mindsight.evaluation.controls import noise_tokens, shuffled_betas
from mindsight.evaluation.features import feature_distance, two_way_identification
from mindsight.evaluation.identification import Retrieval, RetrievalScore, retrieval
from mindsight.evaluation.measure import Answers, Evaluation, Truth, measure
from mindsight.evaluation.metric import METRICS, Metric, Score, cluster_interval
from mindsight.evaluation.pixels import pixcorr, ssim
from mindsight.evaluation.resize import as_pictures, resize
from mindsight.evaluation.splits import cluster_folds, near_duplicates, require_disjoint

__all__ = [
    "METRICS",
    "Accuracy",
    "Answers",
    "Evaluation",
    "Metric",
    "Retrieval",
    "RetrievalScore",
    "Score",
    "Truth",
    "as_pictures",
    "brain_correlation",
    "cluster_folds",
    "cluster_interval",
    "feature_distance",
    "measure",
    "near_duplicates",
    "noise_tokens",
    "pixcorr",
    "require_disjoint",
    "resize",
    "retrieval",
    "rolling_accuracy",
    "shuffled_betas",
    "shuffled_labels",
    "ssim",
    "top_k",
    "two_way_identification",
    "wilson_interval",
]
