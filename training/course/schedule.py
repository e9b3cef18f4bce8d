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


def one_cycle(peak: float, step: int, steps: int, warm_up: float) -> float:
    """The rate of a step in one cycle (Smith & Topin 2019, as torch's ``OneCycleLR``): half a cosine from a 25th of the
    peak up to it, then half a cosine down to a 25,000th.

    step : made so far, 0 for the first; warm_up : share of the steps
    """
    top, last = max(warm_up * steps - 1.0, 0.0), steps - 1.0
    if step <= top and top > 0.0:
        return _half_cosine(peak / 25.0, peak, step / top)
    return _half_cosine(peak, peak / 25_000.0, (step - top) / max(last - top, 1.0))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))
