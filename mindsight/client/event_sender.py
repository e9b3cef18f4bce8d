"""Events of a program that must not wait: a thread sends them, in order, for as long as the service does not take them.

Knows nothing of screens.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mindsight.client.console import Console
from mindsight.errors import MindsightError, NotFound

AGAIN_S = 1.0  # before the next try


class EventSender:
    """Declares events as ``Console.add_event`` does, but returns at once, and outlives outages of the service.

    An event is sent again until the service has it, also while its run is not declared yet: ``mindsight stream``
    declares a run with its first volume. What the service refuses for good is in ``refused``, and stops no other.

    console : used by this thread alone from now on
    refused : each event that could not be sent as it is, or that the service refused, and why
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()
        self._changed, self._closing = threading.Condition(), threading.Event()
        self.refused: list[tuple[Mapping[str, Any], Exception]] = []
        self._thread = threading.Thread(target=self._send, name="events", daemon=True)
        self._thread.start()

    def __enter__(self) -> EventSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add_event(self, run: int, *, onset_s: float, duration_s: float, trial: int | None = None, **what: Any) -> None:
        """As ``Console.add_event``. Never waits, never raises for what the service says."""
        with self._changed:
            self._waiting.append((run, {"onset_s": onset_s, "duration_s": duration_s, "trial": trial, **what}))
            self._changed.notify_all()

    def waiting(self) -> int:
        """Number of events that the service does not have yet."""
        return len(self._waiting)

    def close(self, deadline_s: float = 30.0) -> list[Mapping[str, Any]]:
        """Send what waits, for at most so long; returns the events that the service has not taken. Again: at once."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._closing.is_set(), timeout=deadline_s)
            left: list[Mapping[str, Any]] = [event for _, event in self._waiting]
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(timeout=AGAIN_S)  # one that waits for the service holds up nobody: it ends with the program
        return left

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if self._closing.is_set():
                    return
                run, event = self._waiting[0]
            try:
                self._console.add_events(run, [event])
            except Exception as error:  # whatever a program hands in: its other events are sent
                if isinstance(error, NotFound) or (isinstance(error, MindsightError) and error.is_transient):
                    self._closing.wait(AGAIN_S)
                    continue
                self.refused.append((event, error))
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
