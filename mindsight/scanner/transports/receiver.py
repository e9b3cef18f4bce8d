"""What the transports share: a bounded queue between the threads that receive and the one that reads.

Knows nothing of files, protocols or formats.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, Self, TypeVar

from mindsight.scanner.transports.contract import Clock, Item, Patience, Trouble

QUEUE_LENGTH = 512
TICK_S = 0.05

A_contra = TypeVar("A_contra", contravariant=True)
A = TypeVar("A")


class Machine(Protocol[A_contra]):
    """What turns arrivals into items. It has no threads and no clock."""

    def add(self, arrival: A_contra | Trouble, now_s: float) -> Sequence[Item]: ...

    def tick(self, now_s: float) -> Sequence[Item]: ...

    def finish(self) -> Sequence[Item]: ...


class Receiver(Generic[A]):
    """A transport whose threads call ``offer`` or ``put``, and whose ``items`` are read by one other thread."""

    def __init__(
        self, machine: Machine[A], patience: Patience, clock: Clock, *, queue_length: int = QUEUE_LENGTH
    ) -> None:
        self._machine = machine
        self._patience = patience
        self._clock = clock
        self._queue: queue.Queue[A | Trouble] = queue.Queue(queue_length)
        self._closed = threading.Event()

    def offer(self, arrival: A | Trouble) -> bool:
        """False where the reader is so far behind that this is not taken."""
        try:
            self._queue.put_nowait(arrival)
        except queue.Full:
            return False
        return True

    def put(self, arrival: A | Trouble) -> None:
        """Waits for the reader, until the transport is closed."""
        while not self._closed.is_set():
            try:
                return self._queue.put(arrival, timeout=TICK_S)
            except queue.Full:
                continue

    def items(self) -> Iterator[Item]:
        last_s = self._clock.monotonic_s()
        while True:
            try:
                arrival = self._queue.get(timeout=TICK_S)
            except queue.Empty:
                now_s = self._clock.monotonic_s()
                if self._closed.is_set() or now_s - last_s >= self._patience.idle_s:
                    break
                yield from self._machine.tick(now_s)
                continue
            now_s = self._clock.monotonic_s()
            if not isinstance(arrival, Trouble):  # whoever sends nothing but rubbish keeps nobody waiting
                last_s = now_s
            yield from self._machine.add(arrival, now_s)
            yield from self._machine.tick(now_s)
        yield from self._machine.finish()

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
