"""Learning rates over the course of a training.

Knows nothing of what is trained.
"""

from __future__ import annotations

import math


def learning_rate(peak: float, progress: float) -> float:
    """Warm-up over the first percent of training, then constant, then a cosine over the second half.

    progress : 0 at the beginning, 1 at the end
    """
    if progress < 0.5:
        return peak * min(1.0, 0.05 + progress / 0.01)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (progress - 0.5) / 0.5)))
