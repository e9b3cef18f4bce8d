"""The temperatures of a calibration by stage and by the betas of the run so far, fitted to held-out trials.

Knows nothing of how betas were made. Letters: K trials, N candidates, M null trials, G temperatures of the grid.

Fitted is what is stated, the confidence that the first candidate is right (``stated_losses``). The probability of the
candidate that is right would count more: a few results that are far off then lower the confidence of all others.

A stage has two parameters: the logarithm of the temperature is linear in the logarithm of the betas of the run so far.
Each of a run's first six trials has a factor besides, since their betas are estimated and z-scored from too few others
to follow that line; its logarithm has a normal prior about 0. A stage with few trials stays close to the calibration as
a whole: the logarithm of its temperature at its mean amount of data has a normal prior about that of the calibration's
temperature, and its exponent one about that of the stage before, or 0 for the first. ``docs/retrieval.md`` compares
this rule with others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.retrieval.confidence import (
    Calibration,
    StageTemperature,
    log_losses,
    softmax,
    stated_losses,
    uniform_loss,
)
from mindsight.stages import STAGES, Stage

_STEP = 0.1
# log of the temperatures tried, relative to the calibration's
_GRID = np.arange(-50, 51) * _STEP
_LOG_FACTORS = np.arange(-30, 31) * _STEP
_EXPONENTS = np.arange(0.0, 1.55, 0.05)
_LOG_TEMPERATURE_SD, _EXPONENT_SD = 1.0, 0.5
_FIRST, _FIRST_SD = 6, 1.0
_MAX_NULL = 500


@dataclass(frozen=True, eq=False)
class StageTrials:
    """Held-out trials at one stage.

    scores_KN : as the calibration's ``score`` names them
    right_KN : which candidates are right
    n_run_K : betas of the run when each beta came
    trial_K : its trial's number in the run; None: unknown
    """

    scores_KN: NDArray[Any]
    right_KN: NDArray[np.bool_]
    n_run_K: NDArray[np.intp]
    trial_K: NDArray[np.intp] | None = None


def fit_stages(
    calibration: Calibration,
    trials: Mapping[Stage, StageTrials],
    null_scores_MN: NDArray[Any],
    doubt: float = 1.0,
) -> Calibration:
    """The calibration with a temperature for each stage that has trials.

    calibration : whose temperature the stages' are shrunk towards
    null_scores_MN : (M, N) of shuffled betas
    doubt : number of pseudo-trials per stage, see ``fit_temperature``
    """
    stages: dict[Stage, StageTemperature] = {}
    null_MN = null_scores_MN[:: -(-len(null_scores_MN) // _MAX_NULL)]
    exponent = 0.0
    for stage in STAGES:
        if stage not in trials or not len(trials[stage].n_run_K):
            continue
        stages[stage] = _fit(trials[stage], null_MN, calibration.temperature, exponent, doubt)
        exponent = stages[stage].exponent
    return replace(calibration, stages=stages)


def _fit(
    trials: StageTrials, null_MN: NDArray[Any], common: float, usual_exponent: float, doubt: float
) -> StageTemperature:
    temperatures_G = common * np.exp(_GRID)
    losses_GK = np.stack([stated_losses(trials.scores_KN, trials.right_KN, float(t)) for t in temperatures_G])
    doubts_G = np.array([uniform_loss(null_MN, float(t)) for t in temperatures_G])
    log_n_K = np.log(np.maximum(trials.n_run_K, 1))
    from_mean_K = log_n_K - log_n_K.mean()
    prior_G = 0.5 * (_GRID / _LOG_TEMPERATURE_SD) ** 2
    best = (math.inf, 0.0, 0.0)
    for exponent in _EXPONENTS:
        shifted_GK = _GRID[:, None] - exponent * from_mean_K
        own_G = _at(losses_GK, shifted_GK).sum(axis=1)
        unsure_G = _at(np.broadcast_to(doubts_G[:, None], losses_GK.shape), shifted_GK).mean(axis=1)
        prior = 0.5 * ((exponent - usual_exponent) / _EXPONENT_SD) ** 2
        cost_G = own_G + doubt * unsure_G + prior_G + prior
        at = int(np.argmin(cost_G))
        best = min(best, (float(cost_G[at]), float(_GRID[at]), float(exponent)))
    _, log_temperature, exponent = best
    fitted = StageTemperature(
        temperature=common * math.exp(log_temperature + exponent * log_n_K.mean()),
        exponent=exponent,
        n_run=max(1, int(trials.n_run_K.max())),
        null_confidence=(),
        log_loss=math.nan,
        n=len(log_n_K),
    )
    scaled_KN = trials.scores_KN / np.array([fitted.temperature_at(int(n)) for n in trials.n_run_K])[:, None]
    log_loss = float(log_losses(scaled_KN, trials.right_KN, 1.0).mean())
    amounts = [2**power for power in range(math.ceil(math.log2(fitted.n_run)) + 1)]
    nulls = tuple(float(softmax(null_MN, fitted.temperature_at(n)).max(axis=1).mean()) for n in amounts)
    return _with_first(replace(fitted, null_confidence=nulls, log_loss=log_loss), trials, null_MN)


def _with_first(fitted: StageTemperature, trials: StageTrials, null_MN: NDArray[Any]) -> StageTemperature:
    """With a factor for each of the first trials of a run, as far as the runs have them."""
    factors: list[float] = []
    nulls: list[float] = []
    for number in range(1, _FIRST + 1):
        rows = np.flatnonzero(trials.trial_K == number) if trials.trial_K is not None else np.zeros(0, np.intp)
        if not len(rows):
            break
        usual_K = np.array([fitted.temperature_at(int(n)) for n in trials.n_run_K[rows]])
        typical = float(np.exp(np.log(usual_K).mean()))
        costs = []
        for log_factor in _LOG_FACTORS:
            factor = math.exp(log_factor)
            scaled_KN = trials.scores_KN[rows] / (factor * usual_K[:, None])
            own = float(stated_losses(scaled_KN, trials.right_KN[rows], 1.0).sum())
            costs.append(own + 0.5 * (log_factor / _FIRST_SD) ** 2)
        factors.append(math.exp(_LOG_FACTORS[int(np.argmin(costs))]))
        nulls.append(float(softmax(null_MN, factors[-1] * typical).max(axis=1).mean()))
    return replace(fitted, first=tuple(factors), first_null_confidence=tuple(nulls))


def _at(values_GK: NDArray[np.float64], places_GK: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G, K) values of each trial between those of the grid, where the temperature's logarithm is ``places_GK``."""
    steps_GK = np.clip((places_GK - _GRID[0]) / _STEP, 0.0, len(_GRID) - 1.0)
    below_GK = np.minimum(steps_GK.astype(np.intp), len(_GRID) - 2)
    share_GK = steps_GK - below_GK
    low_GK, high_GK = (np.take_along_axis(values_GK, below_GK + more, axis=0) for more in (0, 1))
    return np.asarray(low_GK * (1.0 - share_GK) + high_GK * share_GK)
