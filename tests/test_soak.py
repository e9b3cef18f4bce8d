"""What ``make soak`` takes for growth: a leak under the ups and downs of visits, and nothing without one."""

from __future__ import annotations

import numpy as np
import pytest

from support.soak import BUS, growing, slope_of


def samples(per_h: float, hours: float = 4.0) -> list[tuple[float, float]]:
    """Ups and downs of 50 MB with each visit, upon a steady growth."""
    rng = np.random.default_rng(5)
    at_h = np.linspace(0.0, hours, 2000)
    return [(h, 300.0 + per_h * h + 50.0 * rng.random() + 0.1 * rng.normal()) for h in at_h]


def test_a_leak_is_found_under_ups_and_downs() -> None:
    slope = slope_of(samples(3.0))
    assert slope.low < 3.0 < slope.high
    assert slope.last == pytest.approx(312.0, abs=3.0)
    (line,) = growing({"gateway, MB": slope, "disk: data of the visits, kept MB": slope})
    assert line.startswith("gateway, MB grows by")
    assert growing({BUS: slope}, visits_per_h=100.0)
    assert growing({BUS: slope}, visits_per_h=1000.0) == []


def test_without_a_leak_nothing_grows() -> None:
    slope = slope_of(samples(0.0))
    assert growing({"gateway, MB": slope, "gateway, files": slope}) == []
    assert slope.low < 0.0 < slope.high
