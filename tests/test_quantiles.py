"""A distribution kept as its quantiles gives back its own shares."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.quantiles import quantiles_of, share_below


def test_the_share_below_is_that_of_the_distribution() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=5000)
    kept = quantiles_of(values)
    assert len(kept) == 101
    for value in np.quantile(values, np.linspace(0.003, 0.997, 60)):
        assert share_below(float(value), kept) == pytest.approx((values < value).mean(), abs=0.01)


def test_beyond_its_ends_nothing_or_all_is_below() -> None:
    kept = quantiles_of(np.array([1.0, 2.0, 3.0]))
    assert (share_below(0.5, kept), share_below(1.0, kept), share_below(3.5, kept)) == (0.0, 0.0, 1.0)


def test_what_equals_the_value_is_not_below_it() -> None:
    kept = quantiles_of(np.array([1.0] * 50 + [2.0] * 50))
    assert share_below(2.0, kept) == pytest.approx(0.5, abs=0.011)
