"""REST: events of a run, as JSON or as a BIDS table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from mindsight.errors import BadRequest
from mindsight.events import Note, candidate_of, declare, decode_table, file_stem, read_events_table
from mindsight.protocol.inputs import AddEvent
from mindsight.protocol.messages import Digest
from service import bundles
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.problems import explain_validation, responses
from service.routes.common import Body, RunNumber, Sent, SessionId
from service.transfer import read_body

MAX_EVENTS_BYTES = 4 * 1024 * 1024
TSV = "text/tab-separated-values"

router = APIRouter(prefix="/v1/sessions/{session}/runs/{run}/events", tags=["events"])


class Event(Sent):
    """A stimulus. An event with a ``trial`` number (from 1 in its run) is decoded, and is safe to send again."""

    onset_s: float = Field(description="seconds after the first volume of the run began")
    duration_s: float = Field(ge=0)
    trial: int | None = Field(default=None, ge=1, le=1_000_000)
    stimulus: Digest | None = Field(default=None, description="the image shown: its digest, from POST /v1/images")
    candidate: str | None = Field(default=None, max_length=200, description="its id in the candidate pool")
    label: str | None = Field(default=None, max_length=200)
    stim_file: str | None = Field(
        default=None,
        max_length=200,
        description="the image file, as in an events table; names the candidate if none is given",
    )
    occurrence: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="for events without a trial number: which of several identical events this is; by default they are"
        " counted within the request",
    )


class EventNote(Body):
    code: str
    text: str
    level: Literal["info", "warning"]


class EventsAdded(Body):
    added: int
    duplicates: int
    notes: list[EventNote] = Field(
        default=[],
        description="rows of a table that were left out, or read in a way that may not be intended; absent if none",
    )


_EVENTS: TypeAdapter[list[Event]] = TypeAdapter(list[Event])
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


@router.post(
    "",
    status_code=201,
    response_model_exclude_defaults=True,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 408, 409, 413, 415, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/Event"},
                            {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                        ]
                    }
                },
                TSV: {
                    "schema": {
                        "type": "string",
                        "description": "BIDS events.tsv; rows that name what was shown are trials",
                    }
                },
            },
        }
    },
)
async def add_events(request: Request, gateway: GatewayDependency, session: SessionId, run: RunNumber) -> EventsAdded:
    """Add one event, a list of events, or a BIDS events table. Sending the same again changes nothing.

    Each row of a table that names what was shown is a trial; trials are numbered by onset. Rows that cannot be used are
    left out: ``notes`` name them and give the reason, and so does the session's message log.
    """
    body = await read_body(request, MAX_EVENTS_BYTES)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    events, notes = _events_from_tsv(body) if kind.startswith("text/") else (_events_from_json(body, kind), ())
    return await run_in_threadpool(_add_events, gateway, session, run, events, notes)


def _add_events(
    gateway: Gateway, session: str, run: int, events: Sequence[Event], notes: Sequence[Note]
) -> EventsAdded:
    recorder, now = gateway.recorder(session), gateway.now()
    gateway.journal(session).run(run)
    ids = _pool_ids(gateway, session) if any(event.stim_file for event in events) else None
    occurrences: Counter[str] = Counter()
    entries = []
    for event in events:
        declared = event.model_dump(exclude={"occurrence"})
        if event.candidate is None and event.stim_file is not None:
            declared["candidate"] = _candidate(event.stim_file, ids)
        entry = AddEvent(t=now, run=run, **declared)
        occurrences[entry.identity] += 1
        occurrence = event.occurrence or occurrences[entry.identity]
        entries.append(entry.model_copy(update={"occurrence": occurrence}))
    added = recorder.add_events(run, entries)
    for note in notes:
        recorder.warn(note.code, note.text, note.level, run, None)
    duplicates = sum(appended.duplicate for appended in added)
    return EventsAdded(
        added=len(added) - duplicates,
        duplicates=duplicates,
        notes=[EventNote(code=note.code, text=note.text, level=note.level) for note in notes],
    )


def _candidate(stim_file: str, ids: Collection[str] | None) -> str | None:
    """The candidate that an image file names; None if a known pool does not hold it (a pool of classes, which labels
    name).
    """
    if ids is None:
        return file_stem(stim_file)
    named = candidate_of(stim_file, ids)
    return named if named in ids else None


def _pool_ids(gateway: Gateway, session: str) -> Collection[str] | None:
    """The candidates that this session is decoded with; None if they are unknown."""
    return bundles.pool_ids(gateway.settings, gateway.sessions.get(session).bundle)


def _events_from_json(body: bytes, kind: str) -> list[Event]:
    if body.lstrip()[:1] not in (b"[", b"{"):
        raise BadRequest(
            f"expected a JSON object or list of events, got something else as {kind[:50]!r}; send a table with"
            f" Content-Type: {TSV}"
        )
    try:
        return _EVENTS.validate_json(body) if body.lstrip()[:1] == b"[" else [_EVENT.validate_json(body)]
    except ValidationError as error:
        raise BadRequest(explain_validation(error.errors())) from None


def _events_from_tsv(body: bytes) -> tuple[list[Event], tuple[Note, ...]]:
    table = read_events_table(decode_table(body))
    declared = declare(table.events)
    try:
        events = [Event.model_validate(asdict(event)) for event in declared.events]
    except ValidationError as error:
        raise BadRequest(explain_validation(error.errors())) from None
    return events, table.notes + declared.notes
