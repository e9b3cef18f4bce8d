"""Confidence: a temperature turns scores into probabilities; scores of shuffled betas are kept for comparison.

Knows nothing of how embeddings were made. Letters: K trials, N candidates, M null trials, Q quantiles.

C. Guo et al., ICML 2017 (temperature scaling). B. Phipson, G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010: the
share of M null trials at or above a score is (1 + their number) / (1 + M), never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.quantiles import quantiles_of, share_below
from mindsight.retrieval.ranking import Ranking
from mindsight.stages import Stage

# log of the temperatures tried: from all probability on one candidate to equal ones. Cosines lie in -1 .. 1.
_LOG_TEMPERATURES = np.linspace(math.log(1e-3), math.log(1e2), 231)

Score = Literal["cosine", "projection"]


def softmax(scores_N: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(..., N) probabilities of the candidates."""
    scaled = np.asarray(scores_N, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


@dataclass(frozen=True, eq=False)
class Confidence:
    """The confidence of one ranking.

    probabilities_N : (N,) calibrated, in the pool's order
    probability : that the first candidate is right
    margin : score of the first minus that of the second; 0 in a pool of one
    null_share : share of shuffled betas whose best score is at least this one's; None if they were not kept
    """

    probabilities_N: NDArray[np.float64]
    probability: float
    margin: float
    null_share: float | None


@dataclass(frozen=True)
class StageTemperature:
    """The temperature of one stage: a power of the betas of the run so far, since the first betas of a run are the
    noisiest; and a factor for each of a run's first trials, which no power follows.

    temperature : at the first beta of a run
    exponent : after n betas of the run the temperature is ``temperature`` times n to minus this power
    n_run : betas of the longest run it was fitted to; after more, the temperature is the one at ``n_run``
    null_confidence : mean confidence for shuffled betas at 1, 2, 4 ... betas of the run
    log_loss, n : as in ``Calibration``, of this stage
    first : factors for the first trials of a run; empty in older calibrations
    first_null_confidence : mean confidence for shuffled betas at these trials
    """

    temperature: float
    exponent: float
    n_run: int
    null_confidence: tuple[float, ...]
    log_loss: float
    n: int
    first: tuple[float, ...] = ()
    first_null_confidence: tuple[float, ...] = ()

    def temperature_at(self, n_run: int, trial: int | None = None) -> float:
        """After ``n_run`` betas of the run, of the trial with this number in it; None: of any but the first ones."""
        factor = self.first[trial - 1] if self._is_first(trial) else 1.0
        return factor * self.temperature * math.pow(self._within(n_run), -self.exponent)

    def null_confidence_at(self, n_run: int, trial: int | None = None) -> float:
        """The same of the mean confidence for shuffled betas."""
        if self._is_first(trial):
            return self.first_null_confidence[trial - 1]
        powers = np.arange(len(self.null_confidence))
        return float(np.interp(math.log2(self._within(n_run)), powers, self.null_confidence))

    def _is_first(self, trial: int | None) -> TypeGuard[int]:
        return trial is not None and 0 < trial <= len(self.first)

    def _within(self, n_run: int) -> int:
        return min(max(n_run, 1), self.n_run)


@dataclass(frozen=True)
class Calibration:
    """From scores to confidence, fitted to a subject's calibration trials.

    temperature : of the softmax over the scores, at stages that were not calibrated
    null_confidence : mean confidence for betas whose voxels were shuffled, the level of chance
    log_loss : mean negative log probability of the right candidate, on the trials the temperature was fitted to
    n : number of these trials
    score : the score that was fitted: ``cosine``, or ``projection``, the cosine times the length of the prediction.
        Ridge predictions of unfamiliar betas are short, and the cosine discards that
    null_top : (Q,) quantiles 0, 0.01 ... 1 of shuffled betas' best score; empty in older calibrations
    null_n : number of shuffled betas
    centred : the prediction for an average beta is subtracted before scoring, see ``ranking.cosine_scores``
    stages : of each stage that was calibrated; empty in older calibrations
    """

    temperature: float
    null_confidence: float
    log_loss: float
    n: int
    score: Score = "cosine"
    null_top: tuple[float, ...] = ()
    null_n: int = 0
    centred: bool = False
    stages: Mapping[Stage, StageTemperature] = field(default_factory=dict)

    def at(self, stage: Stage | None, n_run: int, trial: int | None = None) -> Calibration:
        """For the beta of a trial at a stage, after ``n_run`` betas of the run, see ``StageTemperature``; this one for
        no stage and for one that was not calibrated.
        """
        fitted = None if stage is None else self.stages.get(stage)
        if fitted is None:
            return self
        return replace(
            self,
            temperature=fitted.temperature_at(n_run, trial),
            null_confidence=fitted.null_confidence_at(n_run, trial),
            stages={},
        )

    def probabilities(self, scores_N: NDArray[Any]) -> NDArray[np.float64]:
        """(..., N) calibrated probabilities of scores as ``score`` names them."""
        return softmax(scores_N, self.temperature)

    def scores(self, ranking: Ranking) -> NDArray[np.float64]:
        """(N,) the ranking's scores as ``score`` names them."""
        return ranking.scores_N.astype(np.float64) * (ranking.length if self.score == "projection" else 1.0)

    def confidence(self, ranking: Ranking) -> Confidence:
        """The confidence of a ranking."""
        scores_N = self.scores(ranking)
        probabilities_N = self.probabilities(scores_N)
        first = int(ranking.indices_K[0])
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
    """Fit the temperature to scores of held-out trials.

    The fit includes ``doubt`` pseudo-trials whose target is uniform; their loss is that of the shuffled betas. This
    prior keeps the temperature above zero if all of a few trials are right, which would otherwise make every result
    certain, even to noise. With many trials it has no influence.

    scores_KN : (K, N) of held-out trials
    right_KN : (K, N) which candidates are right, one or more per trial; their probabilities are added
    null_scores_MN : (M, N) of shuffled betas
    score : which scores these are; for ``projection``, cosines times the length of each prediction
    doubt : number of pseudo-trials; 0 fits the trials alone, to compare decoders

    Raises ModelMismatch (``calibration.empty``) if a trial has no right candidate or there is no trial.
    """
    if len(scores_KN) == 0 or len(null_scores_MN) == 0 or not right_KN.any(axis=1).all():
        raise ModelMismatch(
            "expected held-out trials, each with its right candidate in the pool, got none or one without",
            code="calibration.empty",
        )
    unit = 1.0 if score == "cosine" else float(np.median(np.abs(scores_KN).max(axis=1))) or 1.0
    temperatures = unit * np.exp(_LOG_TEMPERATURES)
    losses = np.array([log_losses(scores_KN, right_KN, float(t)).mean() for t in temperatures])
    uniform_losses = np.array([uniform_loss(null_scores_MN, float(t)) for t in temperatures])
    best = int(np.argmin(len(scores_KN) * losses + doubt * uniform_losses))
    temperature = float(temperatures[best])
    null = float(softmax(null_scores_MN, temperature).max(axis=1).mean())
    return Calibration(
        temperature,
        null,
        float(losses[best]),
        len(scores_KN),
        score,
        quantiles_of(null_scores_MN.max(axis=1)),
        len(null_scores_MN),
    )


def log_losses(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], temperature: float) -> NDArray[np.float64]:
    """(K,) negative log probability of the right candidates."""
    right_K = (softmax(scores_KN, temperature) * right_KN).sum(axis=1)
    return np.asarray(-np.log(np.maximum(right_K, np.finfo(np.float64).tiny)))


def stated_losses(scores_KN: NDArray[Any], right_KN: NDArray[np.bool_], temperature: float) -> NDArray[np.float64]:
    """(K,) negative log of the probability that the confidence gives to what is the case: that the first candidate is
    right, or that it is not.
    """
    scaled_KN = np.asarray(scores_KN, dtype=np.float64) / temperature
    rows_K, first_K = np.arange(len(scaled_KN)), scaled_KN.argmax(axis=1)
    weights_KN = np.exp(scaled_KN - scaled_KN[rows_K, first_K][:, None])
    weights_KN[rows_K, first_K] = 0.0
    others_K = weights_KN.sum(axis=1)  # relative to the first candidate's
    tiny = np.finfo(np.float64).tiny
    is_not_K = np.log(np.maximum(others_K, tiny))
    return np.asarray(np.log1p(others_K) - np.where(right_KN[rows_K, first_K], 0.0, is_not_K))


def uniform_loss(null_scores_MN: NDArray[Any], temperature: float) -> float:
    """Mean negative log probability against a uniform target."""
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


def _share_at_or_above(value: float, quantiles: tuple[float, ...], n: int) -> float | None:
    """(1 + number of null values at or above) / (1 + n)."""
    return (1.0 + n * (1.0 - share_below(value, quantiles))) / (1.0 + n) if quantiles else None
