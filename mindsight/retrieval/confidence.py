"""How sure: scores become probabilities by one temperature, and what betas of no picture reach is kept beside them.

Knows nothing of how embeddings came about. Letters: K trials, N candidates, M null trials, Q quantiles.

C. Guo et al., ICML 2017 (temperature scaling). B. Phipson, G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010: the
share of M null trials at or above a score is (1 + their number) / (1 + M), never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.retrieval.ranking import Ranking

# Temperatures tried, in natural logarithms: from one candidate taking all to all alike. Cosines lie in -1 .. 1.
_LOG_TEMPERATURES = np.linspace(math.log(1e-3), math.log(1e2), 231)
_QUANTILES = np.linspace(0.0, 1.0, 101)

Score = Literal["cosine", "projection"]


def softmax(scores_N: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(..., N) probabilities of the candidates."""
    scaled = np.asarray(scores_N, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


@dataclass(frozen=True, eq=False)
class Confidence:
    """How sure one answer is.

    probabilities_N : (N,) calibrated, in the pool's order
    probability : that the first candidate is right
    margin : score of the first minus that of the second; 0 in a pool of one
    null_share : share of shuffled betas whose best score is at least this one's; None where they were not kept
    """

    probabilities_N: NDArray[np.float64]
    probability: float
    margin: float
    null_share: float | None


@dataclass(frozen=True)
class Calibration:
    """What the calibration data say about confidence.

    temperature : of the softmax over the scores
    null_confidence : mean confidence for betas whose voxels were shuffled: what chance looks like
    log_loss : mean negative log probability of the right candidate, on the trials the temperature was fitted to
    n : how many trials that were
    score : what was fitted: ``cosine``, or ``projection``, the cosine times the length of the prediction. Ridge
        predicts short where it finds nothing it knows, and the cosine forgets that
    null_top : (Q,) quantiles 0, 0.01 ... 1 of shuffled betas' best score; empty in calibrations from before they were
        kept
    null_n : of how many shuffled betas
    centred : scores are as seen from what the decoder predicts of an average beta, see ``ranking.cosine_scores``
    """

    temperature: float
    null_confidence: float
    log_loss: float
    n: int
    score: Score = "cosine"
    null_top: tuple[float, ...] = ()
    null_n: int = 0
    centred: bool = False

    def probabilities(self, scores_N: NDArray[Any]) -> NDArray[np.float64]:
        """(..., N) calibrated probabilities of scores of the kind that was fitted."""
        return softmax(scores_N, self.temperature)

    def scores(self, ranking: Ranking) -> NDArray[np.float64]:
        """(N,) the ranking's scores of the kind that was fitted."""
        return ranking.scores_N.astype(np.float64) * (ranking.length if self.score == "projection" else 1.0)

    def confidence(self, ranking: Ranking) -> Confidence:
        """How sure the answer is, in what the calibration was fitted to."""
        scores_N = self.scores(ranking)
        probabilities_N = self.probabilities(scores_N)
        first = int(ranking.places_K[0])
        top, margin = scores_N[first], float(_margins(scores_N[None])[0])
        return Confidence(
            probabilities_N,
            float(probabilities_N[first]),
            margin,
            _share_at_or_above(float(top), self.null_top, self.null_n),
        )


def fit_temperature(
    scores_KN: NDArray[Any],
    right_KN: NDArray[np.bool_],
    null_scores_MN: NDArray[Any],
    score: Score = "cosine",
    doubt: float = 1.0,
) -> Calibration:
    """Fit the temperature to scores of trials that the decoder had not seen.

    As if ``doubt`` trials more had been of nothing at all: their loss is that of the shuffled betas against equal
    probabilities. With many trials that is no matter. But where all of a few were right, the temperature that fits them
    best is none, and any answer, to noise too, would be certain.

    scores_KN : (K, N) of held-out trials
    right_KN : (K, N) which candidates are right, one or more per trial; theirs is the sum of the probabilities
    null_scores_MN : (M, N) of shuffled betas
    score : which scores these are; for ``projection``, cosines times the length of each prediction
    doubt : 0 for the temperature that fits the trials best, to compare decoders by

    Raises ModelMismatch (``calibration.empty``) where a trial has no right candidate or there is no trial.
    """
    if len(scores_KN) == 0 or len(null_scores_MN) == 0 or not right_KN.any(axis=1).all():
        raise ModelMismatch(
            "expected held-out trials, each with its right candidate in the pool, got none or one without",
            code="calibration.empty",
        )
    unit = 1.0 if score == "cosine" else float(np.median(np.abs(scores_KN).max(axis=1))) or 1.0
    temperatures = unit * np.exp(_LOG_TEMPERATURES)
    losses = np.array([_log_loss(scores_KN, right_KN, float(t)) for t in temperatures])
    of_nothing = np.array([_loss_of_nothing(null_scores_MN, float(t)) for t in temperatures])
    best = int(np.argmin(len(scores_KN) * losses + doubt * of_nothing))
    temperature = float(temperatures[best])
    null = float(softmax(null_scores_MN, temperature).max(axis=1).mean())
    return Calibration(
        temperature,
        null,
        float(losses[best]),
        len(scores_KN),
        score,
        _quantiles(null_scores_MN.max(axis=1)),
        len(null_scores_MN),
    )


def _log_loss(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], temperature: float) -> float:
    right_K = (softmax(scores_KN, temperature) * right_KN).sum(axis=1)
    return float(-np.log(np.maximum(right_K, np.finfo(np.float64).tiny)).mean())


def _loss_of_nothing(null_scores_MN: NDArray[Any], temperature: float) -> float:
    """Mean negative log probability over all candidates alike."""
    scaled_MN = np.asarray(null_scores_MN, dtype=np.float64) / temperature
    top_M = scaled_MN.max(axis=1)
    normaliser_M = top_M + np.log(np.exp(scaled_MN - top_M[:, None]).sum(axis=1))
    return float((normaliser_M - scaled_MN.mean(axis=1)).mean())


def _margins(scores_MN: NDArray[Any]) -> NDArray[np.float64]:
    """(M,) best minus second best, 0 in a pool of one."""
    if scores_MN.shape[1] < 2:
        return np.zeros(len(scores_MN))
    second, first = np.partition(np.asarray(scores_MN, dtype=np.float64), -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def _quantiles(values_M: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(np.asarray(values_M, dtype=np.float64), _QUANTILES))


def _share_at_or_above(value: float, quantiles: tuple[float, ...], n: int) -> float | None:
    """(1 + null values at or above) / (1 + n), their number read off the quantiles; where these are level, the more."""
    if not quantiles:
        return None
    upper = int(np.searchsorted(quantiles, value, side="left"))
    if upper == 0:
        below = 0.0
    elif upper == len(quantiles):
        below = 1.0
    else:
        low, high = quantiles[upper - 1], quantiles[upper]
        below = (upper - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)
    return (1.0 + n * (1.0 - below)) / (1.0 + n)
