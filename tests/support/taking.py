"""What the transports' tests share: a real clock, small waits, and a way to take what comes without hanging."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mindsight.scanner.transports import Clock, Item, RunEnded, Timeouts, Transport, TransportWarning
from mindsight.volume import Volume

CLOCK = Clock(time.time, time.monotonic)
SHORT_TIMEOUTS = Timeouts(idle_s=20.0, late_s=1.0, whole_s=1.5, stall_s=0.8)


def trio_file(data: Path, number: int) -> Path:
    return data / "trio_run155" / "dcm" / f"001_000007_{number:06d}.dcm"


def take(transport: Transport, enough: Callable[[list[Item]], bool], within_s: float = 30.0) -> list[Item]:
    """What comes until it is enough, or the time is up; then closes, and takes what was held back."""
    items: list[Item] = []
    end_s = time.monotonic() + within_s
    closed = False
    stream = transport.items()
    while True:
        if not closed and (enough(items) or time.monotonic() > end_s):
            transport.close()
            closed = True
        try:
            items.append(next(stream))
        except StopIteration:
            return items


def until_volumes(n: int) -> Callable[[list[Item]], bool]:
    return lambda items: len(volumes(items)) >= n


def until_warning(code: str) -> Callable[[list[Item]], bool]:
    return lambda items: code in codes(items)


def volumes(items: Iterable[Item]) -> list[Volume]:
    return [item for item in items if isinstance(item, Volume)]


def warnings_in(items: Iterable[Item]) -> list[TransportWarning]:
    return [item for item in items if isinstance(item, TransportWarning)]


def codes(items: Iterable[Item]) -> list[str]:
    return [warning.code for warning in warnings_in(items)]


def places(items: Iterable[Item]) -> list[tuple[int, int]]:
    return [(volume.run, volume.index) for volume in volumes(items)]


def ends(items: Iterable[Item]) -> list[RunEnded]:
    return [item for item in items if isinstance(item, RunEnded)]
