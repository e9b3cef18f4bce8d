"""How good it is, with what chance would give beside it.

Knows nothing of how the answers came about.
"""

from mindsight.evaluation.accuracy import (
    Accuracy,
    rolling_accuracy,
    shuffled_labels,
    top_k,
    wilson_interval,
)

__all__ = ["Accuracy", "rolling_accuracy", "shuffled_labels", "top_k", "wilson_interval"]
