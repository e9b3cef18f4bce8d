"""What ``make soak`` takes for growth, and that all consoles rest while it looks."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from support.soak import BUS, Consoles, growing, slope_of


def samples(per_h: float, hours: float = 4.0) -> list[tuple[float, float]]:
    """What is there at rest goes up and down a little, upon a steady growth."""
    rng = np.random.default_rng(5)
    return [(h, 300.0 + per_h * h + rng.normal()) for h in np.linspace(0.0, hours, 24)]


def test_a_leak_is_found() -> None:
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


def test_at_rest_no_visit_goes_on_and_afterwards_all_do() -> None:
    at_work, n_visits = set[int](), Counter[int]()

    def visit(seat: int) -> None:
        at_work.add(seat)
        time.sleep(0.02)
        at_work.remove(seat)
        n_visits[seat] += 1

    with Consoles(visit, 3) as consoles:
        for _ in range(3):
            with consoles.rest():
                before = n_visits.copy()
                assert not at_work
                time.sleep(0.2)
                assert n_visits == before
            until_s = time.monotonic() + 10.0
            while any(n_visits[seat] == before[seat] for seat in range(3)):
                assert time.monotonic() < until_s
                time.sleep(0.01)
