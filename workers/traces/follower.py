"""Reads the messages of all sessions as they come, and hands on their spans. Knows nothing of where they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from mindsight.bus import Bus
from mindsight.errors import NotFound
from mindsight.journal.read import Journal, entries
from mindsight.journal.sessions import Sessions
from mindsight.protocol import read_message
from workers.traces.spans import SessionSpans, Span

MAX_MESSAGES = 2000  # of one session at a time: the rest comes with the next look


@dataclass
class _Followed:
    spans: SessionSpans
    read: int


@dataclass
class Follower:
    """Follows the sessions of a bus, from what is logged after its first look."""

    bus: Bus
    hand_on: Callable[[list[Span]], None]
    _sessions: dict[str, _Followed] | None = field(default=None)

    def look(self) -> None:
        """Hand on what has become known since the last look. Raises BusUnavailable."""
        open_ = {record.session for record in Sessions(self.bus).unfinished()}
        if self._sessions is None:
            ends = {session: Journal(self.bus, session).messages.last_seq() for session in open_}
            self._sessions = {session: _Followed(SessionSpans(session), seq) for session, seq in ends.items()}
        for session in open_ - set(self._sessions):
            self._sessions[session] = _Followed(SessionSpans(session), 0)
        for session, followed in list(self._sessions.items()):
            found: list[Span] = []
            before = followed.read
            try:
                for entry in islice(entries(Journal(self.bus, session).messages, before), MAX_MESSAGES):
                    followed.read = entry.seq
                    found += followed.spans.take(read_message(entry.payload, entry.seq, session))
            except NotFound:  # erased
                pass
            if found:
                self.hand_on(found)
            if session not in open_ and followed.read == before:
                del self._sessions[session]  # archived, and all of it was handed on
