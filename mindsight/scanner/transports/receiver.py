"""What the transports share: a bounded queue between the threads that receive and the one that reads.

Knows nothing of files, protocols or formats.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from typing_extensions import Self

from mindsight.errors import MindsightError
from mindsight.scanner.transports.arrivals import Arrival
from mindsight.scanner.transports.assemble import Assembler
from mindsight.scanner.transports.contract import FAILED, Clock, Item, Patience, Trouble
from mindsight.scanner.transports.guard import guarded

QUEUE_LENGTH = 256
MAX_QUEUED_BYTES = 512 * 1024 * 1024
TICK_S = 0.05


class Receiver:
    """A transport whose threads call ``offer`` or ``put``, and whose ``items`` are read by one other thread.

    At most MAX_QUEUED_BYTES wait, or one arrival that is larger by itself.
    """

    def __init__(
        self,
        assembler: Assembler,
        patience: Patience,
        clock: Clock,
        *,
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self._assembler = assembler
        self._patience = patience
        self._clock = clock
        self._queue: queue.Queue[tuple[Arrival | Trouble, int]] = queue.Queue(queue_length)
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def offer(self, arrival: Arrival | Trouble) -> bool:
        """False where the reader is so far behind that this is not taken."""
        weight = 0 if isinstance(arrival, Trouble) else arrival.n_bytes
        with self._lock:
            if self._queued_bytes and self._queued_bytes + weight > MAX_QUEUED_BYTES:
                return False
            try:
                self._queue.put_nowait((arrival, weight))
            except queue.Full:
                return False
            self._queued_bytes += weight
        return True

    @property
    def is_full(self) -> bool:
        """The reader is so far behind that nothing is taken now."""
        return self._queue.full() or self._queued_bytes > MAX_QUEUED_BYTES

    def put(self, arrival: Arrival | Trouble) -> None:
        """Waits for the reader, until the transport is closed."""
        while not self.offer(arrival) and not self._closed.wait(TICK_S):
            pass

    def items(self) -> Iterator[Item]:
        last_s = self._clock.monotonic_s()
        for before in self._before():
            yield from self._assembler.add(before, last_s)
            self._dealt_with(before)
        while True:
            try:
                arrival, weight = self._queue.get(timeout=TICK_S)
            except queue.Empty:
                now_s = self._clock.monotonic_s()
                if self._closed.is_set() or now_s - last_s >= self._patience.idle_s:
                    break
                yield from self._assembler.tick(now_s)
                continue
            with self._lock:
                self._queued_bytes -= weight
            now_s = self._clock.monotonic_s()
            if not isinstance(arrival, Trouble):  # whoever sends nothing but rubbish keeps nobody waiting
                last_s = now_s
            yield from self._assembler.add(arrival, now_s)
            yield from self._assembler.tick(now_s)
            if not isinstance(arrival, Trouble):
                self._dealt_with(arrival)
        yield from self._assembler.finish()
        self._finished()

    def _before(self) -> Iterator[Arrival]:
        """What came to a process before, and was not dealt with."""
        return iter(())

    def _dealt_with(self, arrival: Arrival) -> None:
        """All that this made decidable was taken by whoever reads ``items``."""

    def _finished(self) -> None:
        """The same of all that came."""

    def work(self, do: Callable[[], None], what: str) -> None:
        """The body of a thread that the transport cannot be without: where it fails, that is the end, and is said."""
        try:
            guarded(do)
        except MindsightError as error:
            self.put(Trouble(FAILED, f"{what} has ended: {error}; start the same command again", lost=True))
            self._closed.set()

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
