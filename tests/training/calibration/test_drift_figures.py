"""Drift since the calibration, as it is simulated; and that the session's own statistics mend what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight import assets
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.drift_figures import FIRST_VISIT, Drift, figures


def test_responses_drift_by_what_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    before_NV = 2.0 + rng.standard_normal((400, 3000)) * rng.uniform(0.5, 2.0, 3000)
    after_NV = Drift(1.5, 0.2).of(before_NV, rng)
    shift_V = (after_NV.mean(axis=0) - before_NV.mean(axis=0)) / before_NV.std(axis=0)
    gain_V = np.log(after_NV.std(axis=0) / before_NV.std(axis=0))
    assert shift_V.std() == pytest.approx(1.5, rel=0.05)
    assert gain_V.std() == pytest.approx(0.2, rel=0.05)
    np.testing.assert_allclose(Drift(0.0, 0.0).of(before_NV, rng), before_NV)


@pytest.mark.figures
def test_the_runs_own_statistics_take_the_drift_out() -> None:
    bundle, drift = Bundle.load(assets.BUNDLE), Drift(2.0, 0.3, 1.0)
    found = {one.policy: one for one in figures(bundle, drift, [FIRST_VISIT], 2) if one.stage == "final"}
    assert found["run"].accuracy.interval[0] > found["bundle"].accuracy.interval[1]
    assert found["run"].accuracy.value > 0.9
    assert np.mean([run.drifted for run in found["run"].measured]) > 1.5
