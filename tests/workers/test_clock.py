"""Latencies between processes while the wall clock is set: right, or unknown; never the step."""

from __future__ import annotations

import pytest

from workers.clock import STEP_S, Clock


class Times:
    """A wall clock that is set, and a monotonic one that is not."""

    def __init__(self) -> None:
        self.wall_t, self.passed_s = 1_800_000_000.0, 500.0
        self.clock = Clock(lambda: self.wall_t, lambda: self.passed_s)

    def wait(self, seconds: float) -> None:
        self.wall_t += seconds
        self.passed_s += seconds

    def took_ms(self, *, step_s: float = 0.0, before_s: float = 0.1, after_s: float = 0.1) -> float | None:
        """A message that waits 0.2 s, while the clock is set in the middle."""
        written_t = self.wall_t
        self.wait(before_s)
        self.wall_t += step_s
        self.wait(after_s)
        return self.clock.since_ms(written_t)


def test_a_length_is_told_while_nothing_sets_the_clock() -> None:
    times = Times()
    assert times.took_ms() == pytest.approx(200.0, abs=0.01)
    assert times.took_ms(before_s=3600.0) == pytest.approx(3_600_100.0, abs=0.01)


@pytest.mark.parametrize("step_s", [3600.0, 0.5, -0.15, -0.5, -3600.0])
def test_a_step_is_never_told_as_a_length(step_s: float) -> None:
    times = Times()
    assert times.took_ms(step_s=step_s) is None
    times.wait(1.0)
    assert times.took_ms() == pytest.approx(200.0, abs=0.01), "what is written after it is right again"


def test_a_step_between_two_messages_is_noticed_with_the_next() -> None:
    times = Times()
    written_t = times.wall_t
    times.wait(0.2)
    times.wall_t += 3600.0
    assert times.clock.since_ms(times.wall_t - 0.01) is None, "this is when it is noticed"
    times.wait(0.2)
    assert times.clock.since_ms(written_t) is None
    assert times.took_ms() == pytest.approx(200.0, abs=0.01)


def test_a_message_from_the_future_has_no_age() -> None:
    times = Times()
    assert times.clock.since_ms(times.wall_t + 5.0) is None


def test_a_clock_that_runs_a_little_fast_is_not_set() -> None:
    times = Times()
    times.wall_t += 0.5 * STEP_S
    assert times.took_ms() == pytest.approx(200.0, abs=0.01)
