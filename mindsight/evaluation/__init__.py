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
from mindsight.evaluation.captions import rouge_1, rouge_l
from mindsight.evaluation.controls import noise_tokens, shuffled_betas
from mindsight.evaluation.features import feature_distance, two_way_identification
from mindsight.evaluation.identification import Retrieval, RetrievalScore, retrieval
from mindsight.evaluation.measure import Answers, Evaluation, Truth, measure
from mindsight.evaluation.metric import METRICS, Metric, Score, cluster_interval
from mindsight.evaluation.perceptual import alexnet_2, alexnet_5, clip, efficientnet, inception, swav
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
    "alexnet_2",
    "alexnet_5",
    "as_pictures",
    "brain_correlation",
    "clip",
    "cluster_folds",
    "cluster_interval",
    "efficientnet",
    "feature_distance",
    "inception",
    "measure",
    "near_duplicates",
    "noise_tokens",
    "pixcorr",
    "require_disjoint",
    "resize",
    "retrieval",
    "rolling_accuracy",
    "rouge_1",
    "rouge_l",
    "shuffled_betas",
    "shuffled_labels",
    "ssim",
    "swav",
    "top_k",
    "two_way_identification",
    "wilson_interval",
]
