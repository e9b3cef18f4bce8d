"""How sure: scores become probabilities by one temperature, and what betas of no picture reach is kept beside them.

Knows nothing of how the scores came about. Letters: K trials, N candidates, M null trials.

C. Guo et al., ICML 2017 (temperature scaling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch

# Temperatures tried, in natural logarithms: from one candidate taking all to all alike. Cosines lie in -1 .. 1.
_LOG_TEMPERATURES = np.linspace(math.log(1e-3), math.log(1e2), 231)


def softmax(scores_N: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(..., N) probabilities of the candidates."""
    scaled = np.asarray(scores_N, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class Calibration:
    """What the calibration data say about confidence.

    temperature : of the softmax over cosines
    null_confidence : mean confidence for betas whose voxels were shuffled: what chance looks like
    log_loss : mean negative log probability of the right candidate, on the trials the temperature was fitted to
    n : how many trials that were
    """

    temperature: float
    null_confidence: float
    log_loss: float
    n: int

    def probabilities(self, scores_N: NDArray[Any]) -> NDArray[np.float64]:
        """(..., N) calibrated probabilities."""
        return softmax(scores_N, self.temperature)


def calibrate(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], null_scores_MN: NDArray[Any]) -> Calibration:
    """Fit the temperature to scores of trials that the decoder had not seen.

    scores_KN : (K, N) cosines of held-out trials
    right_KN : (K, N) which candidates are right, one or more per trial; theirs is the sum of the probabilities
    null_scores_MN : (M, N) cosines of shuffled betas

    Raises ModelMismatch (``calibration.empty``) where a trial has no right candidate or there is no trial.
    """
    if len(scores_KN) == 0 or len(null_scores_MN) == 0 or not right_KN.any(axis=1).all():
        raise ModelMismatch(
            "expected held-out trials, each with its right candidate in the pool, got none or one without",
            code="calibration.empty",
        )
    temperatures = np.exp(_LOG_TEMPERATURES)
    losses = np.array([_log_loss(scores_KN, right_KN, float(t)) for t in temperatures])
    best = int(np.argmin(losses))
    temperature = float(temperatures[best])
    null = float(softmax(null_scores_MN, temperature).max(axis=1).mean())
    return Calibration(temperature, null, float(losses[best]), len(scores_KN))


def _log_loss(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], temperature: float) -> float:
    right_K = (softmax(scores_KN, temperature) * right_KN).sum(axis=1)
    return float(-np.log(np.maximum(right_K, np.finfo(np.float64).tiny)).mean())
