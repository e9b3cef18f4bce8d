"""How long ago another process wrote something, or that nobody knows: the wall clock may have been set in between.

Times that cross processes are the wall clock's (``t``, ``acked_t``, ``logged_t``), since a process may be on another
machine. A step of the clock, by hand or by a time server, would be told as a latency of hours, or of none. Here a
process compares the wall clock with the monotonic one, which nothing sets, and takes no length that reaches back beyond
a step that it noticed, nor one from the future. Clocks of two machines that differ it cannot tell: ``mindsight doctor``
looks whether something keeps them right.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STEP_S = 0.05  # a time server that lets a clock run slower or faster does so with the monotonic one, too


class Clock:
    """One for each process. ``since_ms`` may be called by several threads."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._ahead_s = wall() - monotonic()
        self._set_s = -float("inf")
        self._lock = threading.Lock()

    def since_ms(self, t: float) -> float | None:
        """Milliseconds from ``t``, seconds since the Unix epoch, until now; None: unknown."""
        with self._lock:
            now, now_s = self._wall(), self._monotonic()
            if abs(now - now_s - self._ahead_s) > STEP_S:
                self._ahead_s, self._set_s = now - now_s, now_s
            taken_s = now - t
            known = taken_s >= 0.0 and now_s - taken_s >= self._set_s
        return 1e3 * taken_s if known else None


CLOCK = Clock()
