"""What an hour is worth: in short here, in the form of the benchmark where long forms are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mindsight.accuracy import Accuracy
from training.calibration.cohort_figures import Plan, figures, pretrained


def measured(plan: Plan, seed: int) -> dict[tuple[str, int], Accuracy]:
    found = figures(plan, seed, pretrained(plan, seed))
    return {(each.decoder.removesuffix(" (closed form kept)"), each.trials): each.accuracy for each in found}


def check(found: dict[tuple[str, int], Accuracy], n: int) -> None:
    best, calibrated = found["best there is", 0], found["closed form", n]
    assert best.interval[1] > calibrated.value
    assert calibrated.interval[0] > 2 * calibrated.chance
    control = found["closed form, shuffled pairs", n]
    assert control.interval[0] < control.chance
    assert calibrated.value > found["from scratch", n].value
    assert found["as calibrated", n] in (calibrated, found["linear", n])


@pytest.mark.slow
def test_a_new_participant_of_a_small_cohort_is_calibrated() -> None:
    plan = Plan(participants=2, trials_each=400, voxels=150, hidden=32, families=30, calibration=(200,), scratch=(200,))
    short = replace(plan.from_scratch, steps=40, look_every=20)
    plan = replace(
        plan,
        pretraining=replace(plan.pretraining, steps=150, batch=64),
        fine_tuning=replace(short, batch=32),
        from_scratch=short,
    )
    check(measured(plan, 0), 200)


@pytest.mark.figures
def test_an_hour_is_worth_more_than_four_hours_without_the_others() -> None:
    plan = Plan(calibration=(750,), scratch=(750, 3000))
    found = measured(plan, 3)
    check(found, 750)
    assert 0.6 < found["best there is", 0].value < 0.95
    assert found["closed form", 750].value > 0.6 * found["best there is", 0].value
    assert found["closed form", 750].interval[0] > found["from scratch", 3000].interval[1]
    assert found["as calibrated", 750].interval[1] > 0.85 * found["best there is", 0].value
