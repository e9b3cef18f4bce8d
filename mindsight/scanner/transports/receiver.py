"""What all transports share: a bounded queue between the receiving threads and the thread that reads.

Knows nothing of files, protocols or formats.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from typing_extensions import Required, Self, TypedDict

from mindsight.errors import MindsightError
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.guard import guarded
from mindsight.scanner.transports.contract import FAILED, Clock, Timeouts

QUEUE_LENGTH = 256
MAX_QUEUED_BYTES = 512 * 1024 * 1024
TICK_S = 0.05
MAX_TICK_S = 0.25  # a longer one was a machine that stood still


class ReceiverOptions(TypedDict, total=False):
    """Options of every transport.

    clock : the clocks to read
    expected : which series is the run; any by default
    timeouts : how long to wait
    run : number of the first run, from 1
    patience : the name of ``timeouts`` up to 0.1, kept for one version
    """

    clock: Required[Clock]
    expected: Expected | None
    timeouts: Timeouts | None
    patience: Timeouts | None
    run: int


class Receiver:
    """A transport whose threads call ``offer`` or ``put``, and whose ``items`` one other thread reads.

    The queue holds at most MAX_QUEUED_BYTES, or a single arrival that is larger. Parameters as in ``ReceiverOptions``.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        expected: Expected | None = None,
        timeouts: Timeouts | None = None,
        patience: Timeouts | None = None,
        run: int = 1,
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self._expected = expected or Expected()
        self._timeouts = timeouts or patience or Timeouts()
        self._clock = clock
        self._assembler = Assembler(self._expected, self._timeouts.late_s, run)
        self._queue: queue.Queue[tuple[Arrival | TransportWarning, int]] = queue.Queue(queue_length)
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def offer(self, arrival: Arrival | TransportWarning) -> bool:
        """Queues the arrival; False if the queue is full because the reader is too far behind."""
        weight = 0 if isinstance(arrival, TransportWarning) else arrival.n_bytes
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
        """Whether the queue is full because the reader is too far behind."""
        return self._queue.full() or self._queued_bytes > MAX_QUEUED_BYTES

    def put(self, arrival: Arrival | TransportWarning) -> None:
        """Queues the arrival, waiting for room until the transport is closed."""
        while not self.offer(arrival) and not self._closed.wait(TICK_S):
            pass

    def items(self) -> Iterator[Item]:
        """What arrived, in order; it ends after ``idle_s`` without data, or once closed.

        Seconds are counted only while nothing is left to read: volumes that wait here, because the reader of this was
        busy or the machine stood still, are not late, and the scanner is not silent.
        """
        watched_s = last_s = 0.0
        for before in self._before():
            yield from self._assembler.add(before, watched_s)
            self._dealt_with(before)
        while True:
            began_s, arrival, weight = self._clock.monotonic_s(), None, 0
            with contextlib.suppress(queue.Empty):
                arrival, weight = self._queue.get(timeout=TICK_S)
            watched_s += min(self._clock.monotonic_s() - began_s, MAX_TICK_S)
            if arrival is None:
                if self._closed.is_set() or watched_s - last_s >= self._timeouts.idle_s:
                    break
                yield from self._assembler.tick(watched_s)
                continue
            with self._lock:
                self._queued_bytes -= weight
            if not isinstance(arrival, TransportWarning):  # garbage alone does not keep the stream open
                last_s = watched_s
            yield from self._assembler.add(arrival, watched_s)
            if self._queue.empty():
                yield from self._assembler.tick(watched_s)
            if not isinstance(arrival, TransportWarning):
                self._dealt_with(arrival)
        yield from self._assembler.finish()
        self._finished()

    def _before(self) -> Iterator[Arrival]:
        """Arrivals of an earlier process that it had not finished with."""
        return iter(())

    def _dealt_with(self, arrival: Arrival) -> None:
        """Called when the reader of ``items`` has taken everything that this arrival led to."""

    def _finished(self) -> None:
        """Called when the reader of ``items`` has taken everything."""

    def work(self, do: Callable[[], None], what: str) -> None:
        """The body of a thread that the transport needs: if it fails, the transport ends with a warning."""
        try:
            guarded(do)
        except MindsightError as error:
            self.put(TransportWarning(FAILED, f"{what} has ended: {error}; start the same command again", lost=True))
            self._closed.set()

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
