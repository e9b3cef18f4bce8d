"""What may happen in which state, as two tables: of a session, and of one of its runs.

A cell is the state after the event, or the code under which the event is refused. ``declare`` takes the conditions of
every append from these tables; the log's script is what enforces them, at the moment of writing.

The tables are for an event that is not in the log yet, or that names the state itself (an open session opened, an ended
run ended). Any other event that is already in the log changes nothing, in whatever state it comes again; the same one
with other content is refused as ``log.diverged``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Literal, TypeAlias

SessionEvent = Literal["open", "change_limits", "set_bundle", "set_roi", "instruct", "warn", "close", "archive"]
RunEvent = Literal["start_run", "add_event", "take_volume", "skip_volume", "end_run"]
Event: TypeAlias = SessionEvent | RunEvent


class SessionState(StrEnum):
    """How far a session has come; it never goes back."""

    ABSENT = "absent"
    OPEN = "open"
    CLOSED = "closed"
    ARCHIVED = "archived"


class RunState(StrEnum):
    """How far a run has come. A run that was not ended before its session was closed stays running."""

    UNDECLARED = "undeclared"
    RUNNING = "running"
    ENDED = "ended"


class Refusal(StrEnum):
    """Why an event is refused, as the code of the error."""

    NO_SESSION = "session.unknown"
    NOT_CLOSED = "session.open"
    CLOSED = "session.closed"
    NO_RUN = "run.unknown"
    RUN_ENDED = "run.ended"


ABSENT, OPEN, CLOSED, ARCHIVED = SessionState
UNDECLARED, RUNNING, ENDED = RunState
_NO_SESSION, _NO_RUN = Refusal.NO_SESSION, Refusal.NO_RUN
_CLOSED, _ENDED = Refusal.CLOSED, Refusal.RUN_ENDED

SessionTable: TypeAlias = Mapping[SessionState, Mapping[Event, SessionState | Refusal]]
RunTable: TypeAlias = Mapping[tuple[SessionState, RunState], Mapping[Event, RunState | Refusal]]

SESSION: SessionTable = {
    ABSENT: {
        "open": OPEN,
        "change_limits": _NO_SESSION,
        "set_bundle": _NO_SESSION,
        "set_roi": _NO_SESSION,
        "instruct": _NO_SESSION,
        "warn": _NO_SESSION,
        "close": _NO_SESSION,
        "archive": _NO_SESSION,
    },
    OPEN: {
        "open": OPEN,
        "change_limits": OPEN,
        "set_bundle": OPEN,
        "set_roi": OPEN,
        "instruct": OPEN,
        "warn": OPEN,
        "close": CLOSED,
        "archive": Refusal.NOT_CLOSED,
    },
    CLOSED: {
        "open": CLOSED,
        "change_limits": _CLOSED,
        "set_bundle": _CLOSED,
        "set_roi": _CLOSED,
        "instruct": _CLOSED,
        "warn": _CLOSED,
        "close": CLOSED,
        "archive": ARCHIVED,
    },
    ARCHIVED: {
        "open": ARCHIVED,
        "change_limits": _CLOSED,
        "set_bundle": _CLOSED,
        "set_roi": _CLOSED,
        "instruct": _CLOSED,
        "warn": _CLOSED,
        "close": ARCHIVED,
        "archive": ARCHIVED,
    },
}


def _in_run(
    start_run: RunState | Refusal,
    add_event: RunState | Refusal,
    take_volume: RunState | Refusal,
    skip_volume: RunState | Refusal,
    end_run: RunState | Refusal,
) -> Mapping[Event, RunState | Refusal]:
    """One row of the table of runs."""
    return {
        "start_run": start_run,
        "add_event": add_event,
        "take_volume": take_volume,
        "skip_volume": skip_volume,
        "end_run": end_run,
    }


# fmt: off
RUN: RunTable = {
    #                              start_run    add_event    take_volume  skip_volume  end_run
    (ABSENT, UNDECLARED):  _in_run(_NO_SESSION, _NO_SESSION, _NO_SESSION, _NO_SESSION, _NO_SESSION),
    (OPEN, UNDECLARED):    _in_run(RUNNING,     _NO_RUN,     _NO_RUN,     _NO_RUN,     _NO_RUN),
    (OPEN, RUNNING):       _in_run(RUNNING,     RUNNING,     RUNNING,     RUNNING,     ENDED),
    (OPEN, ENDED):         _in_run(ENDED,       _ENDED,      _ENDED,      _ENDED,      ENDED),
    (CLOSED, UNDECLARED):  _in_run(_CLOSED,     _NO_RUN,     _NO_RUN,     _NO_RUN,     _NO_RUN),
    (CLOSED, RUNNING):     _in_run(RUNNING,     _CLOSED,     _CLOSED,     _CLOSED,     _CLOSED),
    (CLOSED, ENDED):       _in_run(ENDED,       _CLOSED,     _CLOSED,     _CLOSED,     ENDED),
    (ARCHIVED, UNDECLARED): _in_run(_CLOSED,    _NO_RUN,     _NO_RUN,     _NO_RUN,     _NO_RUN),
    (ARCHIVED, RUNNING):   _in_run(RUNNING,     _CLOSED,     _CLOSED,     _CLOSED,     _CLOSED),
    (ARCHIVED, ENDED):     _in_run(ENDED,       _CLOSED,     _CLOSED,     _CLOSED,     ENDED),
}
# fmt: on


@cache
def refusals(event: Event) -> frozenset[Refusal]:
    """Every code under which the event is refused in some state."""
    cells = [row.get(event) for row in (*SESSION.values(), *RUN.values())]
    return frozenset(cell for cell in cells if isinstance(cell, Refusal))
