"""What the demo's bundle says of its own answers, in visits that it was not calibrated on."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight import assets
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.confidence_figures import FIRST_VISIT, Decoded, decode_visits, figures


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(assets.BUNDLE)


@pytest.mark.slow
def test_a_visit_overstates_nothing(bundle: Bundle) -> None:
    decoded = list(decode_visits(bundle, range(FIRST_VISIT, FIRST_VISIT + 1), 1))
    found = {(one.stage, one.part): one for one in figures(decoded, 0.01)}
    assert len(found) == 9
    for one in found.values():
        assert one.stated <= one.accuracy.interval[1] + 0.08, str(one)
    assert found["fast", "1 to 6"].stated < 0.6 < found["final", "from 16"].stated
    live, later = (
        np.mean([getattr(one, name) for one in decoded if one.stage == "fast"]) for name in ("right", "right_later")
    )
    assert live >= later, "statistics of the run so far are no worse than those of the whole run"


@pytest.mark.figures
def test_ten_visits_state_what_is_observed_in_every_part_at_every_stage(bundle: Bundle) -> None:
    for one in figures(list(decode_visits(bundle, range(FIRST_VISIT, FIRST_VISIT + 10), 3)), 0.01):
        assert abs(one.gap) <= 0.08, str(one)
        assert one.accuracy.interval[1] >= one.later.value, str(one)


def test_parts_are_of_the_trial_s_number_in_its_run() -> None:
    decoded = [Decoded("fast", trial, trial > 2, 0.5, False) for trial in (1, 2, 6, 7, 15, 16)]
    first, second, third = figures(decoded, 0.1)
    assert [one.accuracy.n for one in (first, second, third)] == [3, 2, 1]
    assert (first.accuracy.hits, first.later.hits) == (1, 0)
    assert second.gap == pytest.approx(-0.5)
