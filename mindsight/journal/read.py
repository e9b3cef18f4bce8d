"""A session's two logs, read: inputs and messages in pages, and how far a session and its runs have come.

Knows nothing of who writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from mindsight.bus import Bus, Entry, Log
from mindsight.errors import NotFound
from mindsight.journal.sessions import Sessions
from mindsight.journal.states import RunState, SessionState
from mindsight.protocol import Message, read_message
from mindsight.protocol.inputs import (
    CLOSED_KEY,
    SESSION_KEY,
    Input,
    OpenSession,
    StartRun,
    parse_input,
    run_ended_key,
    run_key,
)

PAGE = 1000


def entries(log: Log, after: int = 0, page: int = PAGE) -> Iterator[Entry]:
    """The log's entries from number ``after + 1`` to its current end, ``page`` per round trip."""
    while found := log.read(after, page):
        yield from found
        after = found[-1].seq


@dataclass(frozen=True)
class RunStatus:
    """A declared run, and how far it has come. ``next_index`` is the volume that is expected next."""

    declared: StartRun
    next_index: int
    ended: bool


@dataclass(frozen=True)
class Journal:
    """One session's logs, for a reader."""

    bus: Bus
    session: str

    @property
    def inputs(self) -> Log:
        return Log(self.bus, self.session, "input")

    @property
    def messages(self) -> Log:
        return Log(self.bus, self.session, "messages")

    def read_inputs(self) -> Iterator[Input]:
        """Without those that this version cannot read: the ingest worker reports them."""
        for entry in entries(self.inputs):
            with suppress(ValidationError):
                yield parse_input(entry.payload)

    def read_messages(self) -> Iterator[Message]:
        """Each with its number in the log as ``id``; see ``read_message`` for one that cannot be read."""
        return (read_message(entry.payload, entry.seq, self.session) for entry in entries(self.messages))

    def opened(self) -> OpenSession:
        """What the session was opened with. Raises NotFound."""
        found = self.inputs.find(SESSION_KEY)
        if found is None:
            raise unknown_session()
        opened = parse_input(found.payload)
        assert isinstance(opened, OpenSession)
        return opened

    def run(self, run: int) -> RunStatus:
        """One run's status, in one round trip. Raises NotFound if the session or the run does not exist."""
        status = self._runs([run])[0]
        if status is None:
            Sessions(self.bus).get(self.session)
            raise unknown_run(run)
        return status

    def runs(self) -> list[RunStatus]:
        """Every declared run's status, in the order of their declaration."""
        declared = [entry.run for entry in self.read_inputs() if isinstance(entry, StartRun)]
        return [status for status in self._runs(declared) if status is not None]

    def state(self) -> SessionState:
        """The log decides whether the session is closed: the list of sessions may be one step behind it."""
        opened, closed = self.inputs.look([SESSION_KEY, CLOSED_KEY])[0]
        if opened is None:
            return SessionState.ABSENT
        if closed is None:
            return SessionState.OPEN
        archived = Sessions(self.bus).get(self.session).state == "archived"
        return SessionState.ARCHIVED if archived else SessionState.CLOSED

    def run_state(self, run: int) -> RunState:
        status = self._runs([run])[0]
        if status is None:
            return RunState.UNDECLARED
        return RunState.ENDED if status.ended else RunState.RUNNING

    def _runs(self, runs: Sequence[int]) -> list[RunStatus | None]:
        keys = [key for run in runs for key in (run_key(run), run_ended_key(run))]
        found, next_indices = self.inputs.look(keys, [run_key(run) for run in runs])
        statuses: list[RunStatus | None] = []
        for started, ended, next_index in zip(found[::2], found[1::2], next_indices, strict=True):
            declared = None if started is None else parse_input(started.payload)
            assert declared is None or isinstance(declared, StartRun)
            statuses.append(None if declared is None else RunStatus(declared, next_index, ended is not None))
        return statuses


def unknown_session() -> NotFound:
    return NotFound("there is no such session", code="session.unknown")


def unknown_run(run: int) -> NotFound:
    return NotFound(f"run {run} was not declared in this session; declare it first", code="run.unknown", run=run)
