"""Lanes of which only the newest item counts: pictures, volumes, betas. One slot each, whoever watches.

Knows nothing of connections, and nothing of what items are made of. How to add a lane:

1. Its name goes into ``mindsight.protocol.stream.Lane``.
2. A ``Source`` says which messages of the session bring a new item, and makes one from such a message::

       gateway.hub.add_source("volumes", Source(frozenset({"volume.processed"}), make))

   ``make(session, message)`` runs in a thread of its own, one at a time for a session's lane, and only while somebody
   wants the lane. It returns the header and the payload, or None. Our own errors, if it raises one, cost that item.
3. A client sends ``{"type": "want", "lanes": ["volumes"]}`` over the session's WebSocket, and gets binary frames
   (``unpack_latest``) of which it never gets an old one once there is a newer one.

While ``make`` works, messages that come are not kept: the newest one is made next. So neither a slow source nor a slow
client lets anything pile up, and the session's messages never wait for either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mindsight.errors import MindsightError
from mindsight.protocol import Message
from mindsight.protocol.stream import Lane, LatestHeader, pack_frame

_log = logging.getLogger("mindsight.gateway")

Made = tuple[LatestHeader, bytes]


@dataclass(frozen=True)
class Source:
    """What makes a lane's items. ``types`` : of the messages that bring a new one."""

    types: frozenset[str]
    make: Callable[[str, Message], Made | None]


@dataclass(frozen=True)
class Latest:
    """An item, ready to be sent."""

    lane: Lane
    number: int
    frame: bytes


@dataclass
class Wanted:
    """What one watcher wants, and which items it has. Changed by its owner; read where the hub looks for news."""

    lanes: frozenset[Lane] = frozenset()
    got: dict[Lane, int] = field(default_factory=dict)


class Slot:
    """One lane of one session: its newest item. Belongs to the event loop."""

    def __init__(self, session: str, lane: Lane, source: Source, made: Callable[[], None]) -> None:
        self.item: Latest | None = None
        self._session, self._lane, self._source, self._made = session, lane, source, made
        self._due: Message | None = None
        self._task: asyncio.Task[None] | None = None
        self._number = 0

    def offer(self, message: Message) -> None:
        """Make an item of this message, unless a newer one comes before it is its turn."""
        if message.type in self._source.types:
            self._due = message
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._due is not None:
                message, self._due = self._due, None
                made = await asyncio.to_thread(self._make, message)
                if made is not None:
                    self._number += 1
                    self.item = Latest(self._lane, self._number, pack_frame(*made))
                    self._made()
        finally:
            self._task = None

    def _make(self, message: Message) -> Made | None:
        try:
            return self._source.make(self._session, message)
        except MindsightError as error:  # what it is made of was erased, or is damaged: there is no such item
            _log.warning("no item of the lane %s for message %d: %s", self._lane, message.id, error.code)
            return None
