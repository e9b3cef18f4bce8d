"""The published metrics by their protocol, one function each, with chance levels.

The names here are for laboratories; each is imported on first use. Other rooms import the module that they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindsight.accuracy import Accuracy, wilson_interval
    from mindsight.evaluation.metrics.brain import brain_correlation
    from mindsight.evaluation.metrics.captions import rouge_1, rouge_l
    from mindsight.evaluation.metrics.identification import retrieval
    from mindsight.evaluation.metrics.perceptual import alexnet_2, alexnet_5, clip, efficientnet, inception, swav
    from mindsight.evaluation.metrics.pixels import pixcorr, ssim

__all__ = [
    "Accuracy",
    "alexnet_2",
    "alexnet_5",
    "brain_correlation",
    "clip",
    "efficientnet",
    "inception",
    "pixcorr",
    "retrieval",
    "rouge_1",
    "rouge_l",
    "ssim",
    "swav",
    "wilson_interval",
]

_ELSEWHERE = {
    "Accuracy": "mindsight.accuracy",
    "brain_correlation": "mindsight.evaluation.metrics.brain",
    "pixcorr": "mindsight.evaluation.metrics.pixels",
    "retrieval": "mindsight.evaluation.metrics.identification",
    "rouge_1": "mindsight.evaluation.metrics.captions",
    "rouge_l": "mindsight.evaluation.metrics.captions",
    "ssim": "mindsight.evaluation.metrics.pixels",
    "wilson_interval": "mindsight.accuracy",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "mindsight.evaluation.metrics.perceptual")), name)
