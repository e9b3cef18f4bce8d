"""Every session's messages, to everyone who watches: one reader of the bus, and per watcher no more than a cursor.

Knows nothing of WebSockets or HTTP. A watcher pulls at its own pace: from the ring of its session's last messages or,
if it is further behind, from the log. So there is no outbox that could overflow, and no moment between past and new
messages at which one could be missed or come twice; a watcher that takes nothing costs nothing.

Beside the messages there are lanes (``service.lanes``), of which a watcher gets the newest item that there is whenever
it can take one; messages go first.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from dataclasses import dataclass

from mindsight.bus import Bus, Entry, Log, read_many
from mindsight.errors import BadRequest, BusUnavailable
from mindsight.journal.read import Journal
from mindsight.protocol import Message, dump_message, read_message, without_truth
from mindsight.protocol.stream import Lags, Lane, Tick
from service.lags import VolumeLag, queue_lags
from service.lanes import Latest, Slot, Source, Wanted

RING = 512
PAGE = 256
TICK_S = 2.0
_BLOCK_S = 0.25  # how soon the reader notices the first watcher of a session
_PAUSE_S = 0.5  # between two attempts to reach a bus that is down


@dataclass(frozen=True)
class Frame:
    """One message, ready to be sent: with the truth, and without."""

    seq: int
    message: Message
    full: str
    blinded: str


class _Topic:
    """One watched session. Belongs to the event loop, except that the reader thread reads ``last``."""

    def __init__(self, log: Log, last: int) -> None:
        self.log = log
        self.last = last
        self.ring: deque[Frame] = deque(maxlen=RING)
        self.news = asyncio.Event()
        self.watchers: list[Wanted] = []
        self.slots: dict[Lane, Slot] = {}
        self.lag = VolumeLag()

    def extend(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.seq == self.last + 1:
                self.ring.append(frame)
                self.last = frame.seq
                self.lag.see(frame.message)
                for slot in self.slots.values():
                    slot.offer(frame.message)
        self.wake()

    def wake(self) -> None:
        """Let every watcher look for what is new."""
        self.news.set()
        self.news = asyncio.Event()

    def after(self, cursor: int) -> list[Frame] | None:
        """The ring's frames after the cursor, at most a page; None if the ring does not reach back that far."""
        if not self.ring or self.ring[0].seq > cursor + 1:
            return None
        start = cursor + 1 - self.ring[0].seq
        return [self.ring[i] for i in range(start, min(start + PAGE, len(self.ring)))]

    def latest(self, wanted: Wanted) -> Latest | None:
        """The newest item of a lane that this watcher has not got."""
        for lane in wanted.lanes:
            item = self.slots[lane].item if lane in self.slots else None
            if item is not None and item.number != wanted.got.get(lane):
                wanted.got[lane] = item.number
                return item
        return None

    def settle(self, sources: dict[Lane, Source]) -> None:
        """Have a slot for each lane that somebody wants, and for no other."""
        wanted = {lane for watcher in self.watchers for lane in watcher.lanes} & sources.keys()
        for lane in wanted - self.slots.keys():
            slot = self.slots[lane] = Slot(self.log.session, lane, sources[lane], self.wake)
            for frame in self.ring:
                slot.offer(frame.message)  # of which the newest is made
        self.slots = {lane: slot for lane, slot in self.slots.items() if lane in wanted}


class Hub:
    """Started and stopped with the gateway; ``follow`` runs in the event loop that started it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._topics: dict[str, _Topic] = {}
        self._sources: dict[Lane, Source] = {}
        self._queues = Lags()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._read, name="hub", daemon=True)

    def add_source(self, lane: Lane, source: Source) -> None:
        """What makes a lane's items. To be called before ``start``."""
        self._sources[lane] = source

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

    def want(self, session: str, wanted: Wanted, lanes: Collection[Lane]) -> None:
        """From now on the watcher whose ``wanted`` this is gets these lanes, and no other."""
        wanted.lanes = frozenset(lanes)
        if topic := self._topics.get(session):
            topic.settle(self._sources)
            topic.wake()

    async def follow(
        self, session: str, after: int, wanted: Wanted | None = None
    ) -> AsyncGenerator[list[Frame] | Latest | Tick]:
        """The messages after number ``after``, then each new one, without end; a tick every TICK_S; and the newest
        items of the lanes that are ``wanted``.

        Raises BusUnavailable if the bus is down and the ring does not reach back far enough.
        """
        wanted = wanted or Wanted()
        topic = await self._attach(session, wanted)
        cursor = after
        next_tick = 0.0
        try:
            while True:
                left_s = next_tick - time.monotonic()
                if left_s <= 0:
                    next_tick = time.monotonic() + TICK_S
                    yield self._tick(topic, cursor)
                elif cursor < topic.last:
                    frames = topic.after(cursor)
                    if frames is None:
                        frames = await asyncio.to_thread(frames_of, topic.log, cursor)
                    if not frames:  # the session was erased meanwhile
                        return
                    cursor = frames[-1].seq
                    yield frames
                elif (item := topic.latest(wanted)) is not None:
                    yield item
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await topic.news.wait()
        finally:
            topic.watchers = [watcher for watcher in topic.watchers if watcher is not wanted]
            topic.settle(self._sources)
            if not topic.watchers and self._topics.get(session) is topic:
                del self._topics[session]

    def _tick(self, topic: _Topic, cursor: int) -> Tick:
        lags = self._queues.model_copy(update={"volumes": topic.lag.n})
        return Tick(t=round(time.time(), 3), last=topic.last, behind=max(0, topic.last - cursor), lags=lags)

    async def _attach(self, session: str, wanted: Wanted) -> _Topic:
        if session not in self._topics:
            log = Journal(self._bus, session).messages
            last = await asyncio.to_thread(log.last_seq)
            self._topics.setdefault(session, _Topic(log, last))
            self._wake.set()
        topic = self._topics[session]
        topic.watchers.append(wanted)
        topic.settle(self._sources)
        return topic

    def _read(self) -> None:
        """The reader thread: passes new messages of every watched session to its topic."""
        assert self._loop is not None
        looked_s = -TICK_S
        while not self._stop.is_set():
            topics = {topic.log: topic for topic in list(self._topics.values())}
            if not topics:
                self._wake.wait(_BLOCK_S)
                self._wake.clear()
                continue
            try:
                if time.monotonic() - looked_s >= TICK_S:
                    looked_s = time.monotonic()
                    self._queues = queue_lags(self._bus)
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


def frames_of(log: Log, after: int) -> list[Frame]:
    """The log's next messages after number ``after``, at most a page."""
    return [_frame(entry, log.session) for entry in log.read(after, PAGE)]


def _frame(entry: Entry, session: str) -> Frame:
    message = read_message(entry.payload, entry.seq, session)
    full = dump_message(message).decode()
    blinded = without_truth(message)
    return Frame(entry.seq, message, full, full if blinded is message else dump_message(blinded).decode())
