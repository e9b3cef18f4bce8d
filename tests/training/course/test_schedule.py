"""Learning rates over a training."""

from __future__ import annotations

import numpy as np

from training.course.schedule import learning_rate


def test_the_learning_rate_warms_up_holds_and_comes_down() -> None:
    rates = [learning_rate(1.0, progress) for progress in (0.0, 0.02, 0.5, 0.75, 1.0)]
    np.testing.assert_allclose(rates, [0.05, 1.0, 1.0, 0.505, 0.01])
