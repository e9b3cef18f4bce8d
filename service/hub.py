"""Every session's messages, to everyone who watches: one reader of the bus, and per watcher no more than a cursor.

Knows nothing of WebSockets or HTTP. A watcher pulls at its own pace: from the ring of its session's last messages or,
if it is further behind, from the log. So there is no outbox that could overflow, and no moment between past and new
messages at which one could be missed or come twice; a watcher that takes nothing costs nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

from mindsight.bus import Bus, Entry, Log, read_many
from mindsight.errors import BadRequest, BusUnavailable
from mindsight.journal.read import Journal
from mindsight.protocol import dump_message, read_message, without_truth

RING = 512
PAGE = 256
TICK_S = 2.0
_BLOCK_S = 0.25  # how soon the reader notices the first watcher of a session
_PAUSE_S = 0.5  # between two attempts to reach a bus that is down


@dataclass(frozen=True)
class Frame:
    """One message, ready to be sent: with the truth, and without."""

    seq: int
    full: str
    blinded: str


class _Topic:
    """One watched session. Belongs to the event loop, except that the reader thread reads ``last``."""

    def __init__(self, log: Log, last: int) -> None:
        self.log = log
        self.last = last
        self.ring: deque[Frame] = deque(maxlen=RING)
        self.news = asyncio.Event()
        self.watchers = 0

    def extend(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.seq == self.last + 1:
                self.ring.append(frame)
                self.last = frame.seq
        self.news.set()
        self.news = asyncio.Event()

    def after(self, cursor: int) -> list[Frame] | None:
        """The ring's frames after the cursor, at most a page; None if the ring does not reach back that far."""
        if not self.ring or self.ring[0].seq > cursor + 1:
            return None
        start = cursor + 1 - self.ring[0].seq
        return [self.ring[i] for i in range(start, min(start + PAGE, len(self.ring)))]


class Hub:
    """Started and stopped with the gateway; ``follow`` runs in the event loop that started it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._topics: dict[str, _Topic] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._read, name="hub", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def reads(self) -> bool:
        """Whether new messages reach the watchers."""
        return self._thread.is_alive()

    async def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, 10.0)

    async def check(self, session: str, after: int) -> None:
        """Raises BadRequest if the session's log does not reach ``after``."""
        last = await asyncio.to_thread(Journal(self._bus, session).messages.last_seq)
        if after > last:
            raise BadRequest(
                f"expected a cursor of at most {last}, got {after}; start again from 0",
                code="cursor.unknown",
                last=last,
            )

    async def follow(self, session: str, after: int) -> AsyncGenerator[list[Frame]]:
        """The messages after number ``after``, then each new one, without end; an empty list every TICK_S as a beat.

        Raises BusUnavailable if the bus is down and the ring does not reach back far enough.
        """
        topic = await self._attach(session)
        cursor = after
        next_tick = 0.0
        try:
            while True:
                left_s = next_tick - time.monotonic()
                if left_s <= 0:
                    next_tick = time.monotonic() + TICK_S
                    yield []
                elif cursor < topic.last:
                    frames = topic.after(cursor)
                    if frames is None:
                        entries = await asyncio.to_thread(topic.log.read, cursor, PAGE)
                        frames = [_frame(entry, session) for entry in entries]
                    cursor = frames[-1].seq
                    yield frames
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await topic.news.wait()
        finally:
            topic.watchers -= 1
            if topic.watchers == 0 and self._topics.get(session) is topic:
                del self._topics[session]

    async def _attach(self, session: str) -> _Topic:
        if session not in self._topics:
            log = Journal(self._bus, session).messages
            last = await asyncio.to_thread(log.last_seq)
            self._topics.setdefault(session, _Topic(log, last))
            self._wake.set()
        topic = self._topics[session]
        topic.watchers += 1
        return topic

    def _read(self) -> None:
        """The reader thread: passes new messages of every watched session to its topic."""
        assert self._loop is not None
        while not self._stop.is_set():
            topics = {topic.log: topic for topic in list(self._topics.values())}
            if not topics:
                self._wake.wait(_BLOCK_S)
                self._wake.clear()
                continue
            try:
                found = read_many({log: topic.last for log, topic in topics.items()}, block_s=_BLOCK_S, limit=PAGE)
            except BusUnavailable:
                self._stop.wait(_PAUSE_S)
                continue
            delivered = threading.Event()
            for log, entries in found.items():
                frames = [_frame(entry, log.session) for entry in entries]
                self._loop.call_soon_threadsafe(topics[log].extend, frames)
            if found:
                # Continue after what the topics have taken, not after what is still on its way to them.
                self._loop.call_soon_threadsafe(delivered.set)
                delivered.wait(_PAUSE_S)


def _frame(entry: Entry, session: str) -> Frame:
    message = read_message(entry.payload, entry.seq, session)
    full = dump_message(message).decode()
    blinded = without_truth(message)
    return Frame(entry.seq, full, full if blinded is message else dump_message(blinded).decode())
