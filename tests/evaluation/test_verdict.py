"""The verdict on curves that are known: what it predicts covers the truth, and its rule is the one that it states."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mindsight.accuracy import Accuracy
from mindsight.errors import BadRequest
from mindsight.evaluation.calibration_record import Control, LearningPoint
from mindsight.evaluation.learning_curve import FittedCurve
from mindsight.evaluation.verdict import MIN_TRIALS, READY_SHARE, verdict_of
from support.calibration_record import POOL, record_of

AMOUNTS = (75, 150, 300, 600)


def share_right(trials: float, best: float, half: float, chance: float) -> float:
    """First of 1 / chance scores, by 200,000 draws: written without the module's integral."""
    rng = np.random.default_rng(5)
    d = best * math.sqrt(trials / (trials + half)) if math.isfinite(trials) else best
    own = rng.standard_normal(200_000) + d
    # the best of N - 1 is the (N - 1)th root of a uniform number, as a quantile
    from scipy.special import ndtri

    others = ndtri(rng.random(200_000) ** (1.0 / (1.0 / chance - 1.0)))
    return float((own > others).mean())


def drawn(best: float, half: float, chance: float, rng: np.random.Generator, n: int = 600) -> list[LearningPoint]:
    points = []
    for trials in AMOUNTS:
        hits = int(rng.binomial(n, share_right(trials, best, half, chance)))
        points.append(LearningPoint(trials=trials, minutes=trials / 10, accuracy=Accuracy(hits, n, chance)))
    return points


@pytest.mark.slow
@pytest.mark.parametrize(("best", "half", "chance"), [(4.0, 30.0, 0.01), (5.0, 600.0, 1 / 300), (2.5, 1500.0, 0.125)])
def test_the_truth_lies_in_the_intervals(best: float, half: float, chance: float) -> None:
    rng = np.random.default_rng(1)
    now, plateau = (share_right(at, best, half, chance) for at in (600.0, math.inf))
    inside = np.zeros(2)
    for _ in range(10):
        curve = FittedCurve.fit(drawn(best, half, chance, rng))
        for i, (at, truth) in enumerate(((600.0, now), (math.inf, plateau))):
            found = curve.accuracy(at)
            inside[i] += found.low - 0.005 <= truth <= found.high + 0.005
    assert (inside >= 9).all()  # of 10 intervals of 95 %, which simulations show to hold 97 % and more


@pytest.mark.parametrize(
    ("best", "half", "kind"), [(4.0, 30.0, "ready"), (4.0, 3000.0, "needs_more"), (0.0, 30.0, "unusable")]
)
def test_the_verdict_of_a_known_curve(best: float, half: float, kind: str) -> None:
    rng = np.random.default_rng(2)
    at = share_right(600.0, best, half, 1 / POOL)
    record = record_of(n_trials=300, right=at if best else 1 / POOL)
    found = verdict_of(replace(record, curve=tuple(drawn(best, half, 1 / POOL, rng))))
    assert found.kind == kind
    if kind == "needs_more":
        assert found.more_trials is not None
        share = (share_right(600.0, best, half, 1 / POOL) - 1 / POOL) / (
            share_right(math.inf, best, half, 1 / POOL) - 1 / POOL
        )
        assert share < READY_SHARE
        assert found.more_trials.low > 0


def test_what_is_needed_reaches_the_share() -> None:
    curve = FittedCurve.fit(drawn(4.0, 600.0, 0.05, np.random.default_rng(3), n=20_000))
    needed = curve.trials_for(READY_SHARE).value
    chance, plateau = 0.05, share_right(math.inf, 4.0, 600.0, 0.05)
    share = (share_right(needed, 4.0, 600.0, 0.05) - chance) / (plateau - chance)
    assert abs(share - READY_SHARE) < 0.05


def test_few_trials_at_chance_need_more_and_many_are_unusable() -> None:
    few, many = (verdict_of(record_of(n_trials=n, right=1 / POOL)) for n in (MIN_TRIALS // 2, 300))
    assert few.kind == "needs_more"
    assert few.more_trials is not None
    assert few.more_trials.value == MIN_TRIALS // 2
    assert many.kind == "unusable"
    assert "not above" in many.reasons[0]


def test_a_control_above_chance_makes_it_unusable() -> None:
    record = record_of(n_trials=60)
    leak = Control(what="labels shuffled before the fit", accuracy=Accuracy(60, 200, 1 / POOL))
    found = verdict_of(replace(record, controls=(leak,)))
    assert found.kind == "unusable"
    assert "labels shuffled" in found.reasons[0]


def test_lost_volumes_and_refused_registrations_make_it_unusable() -> None:
    record = record_of(n_trials=60)
    lost = replace(record, runs=(replace(record.runs[0], censored=101),))
    refused = replace(record, registrations=(replace(record.registrations[0], trusted=False),))
    assert [verdict_of(one).kind for one in (record, lost, refused)][1:] == ["unusable", "unusable"]
    assert verdict_of(record).kind != "unusable"


def test_weights_that_are_not_fitted_have_no_curve() -> None:
    found = verdict_of(replace(record_of(n_trials=60), curve=()))
    assert found.kind == "ready"
    assert found.now is None
    with pytest.raises(BadRequest, match="two points"):
        FittedCurve.fit([])
