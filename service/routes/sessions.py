"""REST: subjects, sessions, runs, events, results. Knows nothing of how they are kept."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from mindsight.bus import Log
from mindsight.errors import BadRequest, NotFound
from mindsight.events import Note, candidate_of, declare, decode_table, file_stem, read_events_table
from mindsight.journal.declare import RunStatus
from mindsight.journal.sessions import SessionRecord
from mindsight.protocol import Captioned, Reconstruction, Result, parse_message
from mindsight.protocol.inputs import AddEvent, SetLimits, StartRun
from mindsight.stages import Stage
from mindsight.subjects.bundle.description import needs_length, pool_ids, pool_size
from mindsight.subjects.registry import Subject
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.problems import explain_validation, responses
from service.routes.bodies import (
    ChangeLimits,
    DeclareRun,
    Enrol,
    Event,
    EventNote,
    EventsAdded,
    LimitsTaken,
    Open,
    Results,
    Run,
    RunNumber,
    SessionId,
    SessionShown,
    SetBundle,
    Trouble,
    TroubleTold,
)
from service.transfer import read_body

MAX_EVENTS_BYTES = 4 * 1024 * 1024
TSV = "text/tab-separated-values"
_EVENTS: TypeAdapter[list[Event]] = TypeAdapter(list[Event])
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)

router = APIRouter(prefix="/v1")


@router.post(
    "/subjects",
    status_code=201,
    tags=["subjects"],
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def enrol_subject(gateway: GatewayDependency, body: Enrol | None = None) -> Subject:
    """Enrol a subject: the answer is a random pseudonym. Who that is, is nowhere in this service."""
    bundle = body.bundle if body else None
    _check_bundle(gateway, bundle)
    return gateway.registry.enrol(gateway.now(), bundle)


@router.get(
    "/subjects",
    tags=["subjects"],
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses=responses(),
)
def list_subjects(gateway: GatewayDependency) -> list[Subject]:
    return gateway.registry.list()


@router.put(
    "/subjects/{subject}/bundle",
    tags=["subjects"],
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def set_bundle(gateway: GatewayDependency, subject: str, body: SetBundle) -> Subject:
    """Sessions opened from now on are decoded with this bundle."""
    _check_bundle(gateway, body.bundle)
    return gateway.registry.set_bundle(subject, body.bundle)


@router.post(
    "/sessions",
    status_code=201,
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def open_session(gateway: GatewayDependency, body: Open) -> SessionRecord:
    """Open a session of an enrolled subject. Repeating it with the same id and settings changes nothing."""
    subject = gateway.registry.get(body.subject)
    _check_pairs(gateway, subject.bundle, body.options.pairs)
    record = SessionRecord(
        session=body.session or f"ses-{secrets.token_hex(4)}",
        subject=subject.subject,
        bundle=subject.bundle,
        options=body.options,
        opened_t=gateway.now(),
    )
    return gateway.recorder(record.session).open(record, _pool_size(gateway, subject.bundle))


@router.get(
    "/sessions",
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control", "events:read"))],
    responses=responses(),
)
def list_sessions(gateway: GatewayDependency) -> list[SessionRecord]:
    return gateway.sessions.list()


@router.get(
    "/sessions/{session}",
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses=responses(404),
)
def get_session(gateway: GatewayDependency, session: SessionId) -> SessionShown:
    record = gateway.sessions.get(session)
    needs = record.bundle is not None and needs_length(gateway.settings.bundles_dir / record.bundle)
    return SessionShown(**record.model_dump(), needs_n_volumes=needs)


@router.post(
    "/sessions/{session}/close",
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 507),
)
def close_session(gateway: GatewayDependency, session: SessionId) -> SessionRecord:
    """Nothing is taken after this; what was taken is decoded to its end and archived."""
    return gateway.recorder(session).close()


@router.post(
    "/sessions/{session}/warnings",
    status_code=201,
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control", "volumes:write"))],
    responses=responses(404, 409, 507),
)
def add_warning(gateway: GatewayDependency, session: SessionId, body: Trouble) -> TroubleTold:
    """Tell everyone who watches what is wrong at the scanner's side. The same once more changes nothing."""
    gateway.sessions.get(session)
    told = gateway.recorder(session).warn(**body.model_dump())
    return TroubleTold(duplicate=told.duplicate)


@router.post(
    "/sessions/{session}/limits",
    status_code=201,
    tags=["sessions"],
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def change_limits(gateway: GatewayDependency, session: SessionId, body: ChangeLimits) -> LimitsTaken:
    """Change limits of quality during a session: what censors a volume, and what somebody is told of.

    The change is part of the session's record, between two volumes, so that a replay gives the same betas.
    """
    change = body.change or secrets.token_hex(8)
    declared = SetLimits(t=gateway.now(), change=change, fd_mm=body.fd_mm, limits=body.limits)
    appended = gateway.recorder(session).set_limits(declared)
    return LimitsTaken(change=change, duplicate=appended.duplicate)


@router.post(
    "/sessions/{session}/runs",
    status_code=201,
    tags=["runs"],
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def declare_run(gateway: GatewayDependency, session: SessionId, body: DeclareRun) -> Run:
    """Declare a run before its first volume. Repeating the same declaration changes nothing."""
    recorder = gateway.recorder(session)
    recorder.start_run(StartRun(t=gateway.now(), **body.model_dump()))
    return _run(recorder.run(body.run))


@router.get(
    "/sessions/{session}/runs",
    tags=["runs"],
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses=responses(404),
)
def list_runs(gateway: GatewayDependency, session: SessionId) -> list[Run]:
    gateway.sessions.get(session)
    return [_run(status) for status in gateway.recorder(session).runs()]


@router.get(
    "/sessions/{session}/runs/{run}",
    tags=["runs"],
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses=responses(404),
)
def get_run(gateway: GatewayDependency, session: SessionId, run: RunNumber) -> Run:
    """How far the run has come; ``next_index`` is where a console that was interrupted goes on."""
    return _run(gateway.recorder(session).run(run))


@router.post(
    "/sessions/{session}/runs/{run}/end",
    tags=["runs"],
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def end_run(gateway: GatewayDependency, session: SessionId, run: RunNumber) -> Run:
    return _run(gateway.recorder(session).end_run(run))


@router.post(
    "/sessions/{session}/runs/{run}/events",
    status_code=201,
    response_model_exclude_defaults=True,
    tags=["events"],
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
                        "description": "BIDS events.tsv; rows that say what was shown are trials",
                    }
                },
            },
        }
    },
)
async def add_events(request: Request, gateway: GatewayDependency, session: SessionId, run: RunNumber) -> EventsAdded:
    """Add one event, a list of events, or a BIDS events table. Repeating the same changes nothing.

    Of a table, each row that says what was shown is a trial, numbered in the order of their onsets. What can be kept is
    kept; ``notes`` say which rows were left out and why, and so does the session's log.
    """
    body = await read_body(request, MAX_EVENTS_BYTES)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    events, notes = _events_from_tsv(body) if kind.startswith("text/") else (_events_from_json(body, kind), ())
    return await run_in_threadpool(_add_events, gateway, session, run, events, notes)


def _add_events(
    gateway: Gateway, session: str, run: int, events: Sequence[Event], notes: Sequence[Note]
) -> EventsAdded:
    recorder, now = gateway.recorder(session), gateway.now()
    recorder.run(run)
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
    """The candidate that a picture's file names: of the pool, where it is known; None where it is not in it (a pool of
    classes, which the label names).
    """
    if ids is None:
        return file_stem(stim_file)
    named = candidate_of(stim_file, ids)
    return named if named in ids else None


def _pool_ids(gateway: Gateway, session: str) -> Collection[str] | None:
    """The candidates that this session is decoded with; None where nobody can say."""
    bundle = gateway.sessions.get(session).bundle
    return None if bundle is None else pool_ids(gateway.settings.bundles_dir / bundle)


@router.get(
    "/sessions/{session}/results",
    tags=["results"],
    dependencies=[Depends(require("events:read"))],
    responses=responses(404),
)
def get_results(
    gateway: GatewayDependency,
    session: SessionId,
    run: Annotated[int | None, Query(ge=1)] = None,
    trial: Annotated[int | None, Query(ge=1)] = None,
    stage: Stage | None = None,
) -> Results:
    """What the brain said so far, in the order in which it was said."""
    gateway.sessions.get(session)
    found = [
        message
        for entry in _all_messages(gateway, session)
        if isinstance(message := parse_message(entry[1], id=entry[0]), Result | Reconstruction | Captioned)
        and run in (None, message.run)
        and trial in (None, message.trial)
        and stage in (None, message.stage)
    ]
    return Results(
        results=[message for message in found if isinstance(message, Result)],
        reconstructions=[message for message in found if isinstance(message, Reconstruction)],
        captions=[message for message in found if isinstance(message, Captioned)],
    )


def _all_messages(gateway: Gateway, session: str) -> list[tuple[int, bytes]]:
    log, entries, after = Log(gateway.bus, session, "messages"), [], 0
    while page := log.read(after):
        entries += [(entry.seq, entry.payload) for entry in page]
        after = page[-1].seq
    return entries


def _check_bundle(gateway: Gateway, bundle: str | None) -> None:
    if bundle is not None and not (gateway.settings.bundles_dir / bundle).exists():
        raise NotFound("there is no such subject bundle; make it with: mindsight calibrate", code="bundle.unknown")


def _unreadable_bundle() -> NotFound:
    return NotFound("the subject's bundle cannot be read; put it back, or set another", code="bundle.unreadable")


def _pool_size(gateway: Gateway, bundle: str | None) -> int | None:
    """As the bundle's description has it; what decodes with the bundle verifies it."""
    if bundle is None:
        return None
    size = pool_size(gateway.settings.bundles_dir / bundle)
    if size is None:
        raise _unreadable_bundle()
    return size


def _check_pairs(gateway: Gateway, bundle: str | None, pairs: tuple[tuple[str, str], ...]) -> None:
    """Raises BadRequest (``pairs.unknown``): better now than with the first answer."""
    if not pairs:
        return
    if bundle is None:
        raise BadRequest("expected a subject with a bundle: without one there is no pool to take pairs of")
    known = pool_ids(gateway.settings.bundles_dir / bundle)
    if known is None:
        raise _unreadable_bundle()
    unknown = sorted({candidate for pair in pairs for candidate in pair} - known)
    if unknown:
        raise BadRequest(
            f"expected pairs of the {len(known)} candidates of the subject's pool, got {unknown[0]!r}",
            code="pairs.unknown",
        )


def _run(status: RunStatus) -> Run:
    declared: dict[str, Any] = status.declared.model_dump(include={"run", "task", "tr_s", "n_volumes"})
    return Run(**declared, next_index=status.next_index, ended=status.ended)


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
