"""REST: the dry run before a session is opened, and how far an open one has come. Both change nothing."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.journal.read import Journal
from mindsight.journal.sessions import Protocol
from mindsight.protocol import RunEnded, RunStarted, VolumeProcessed, VolumeReceived, Warned, read_message
from service.auth import require
from service.checks import Check, check_session
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body, SessionId
from service.routes.sessions import Open, bundle_of

TAIL = 300  # messages at the end of a log that tell how a session is
SILENT_TRS = 3.0

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


class DryRun(Open):
    """What would be opened, see POST /v1/sessions."""

    client_t: float | None = Field(
        default=None, description="the clock of whoever asks, seconds since the Unix epoch, to be compared"
    )


class DryRunOutcome(Body):
    ready: bool = Field(description="whether no check failed")
    bundle: str | None = Field(description="that would decode the session; null: none")
    checks: list[Check]


class SessionStatus(Body):
    session: str
    run: int | None = Field(default=None, description="the last one; null: none has begun")
    running: bool = Field(default=False, description="whether this run is on")
    planned: Protocol | None = Field(default=None, description="as the session was opened with")
    volumes: int = Field(default=0, description="of this run")
    planned_volumes: int | None = Field(default=None, description="of this run; null: not declared")
    last_volume_t: float | None = Field(default=None, description="seconds since the Unix epoch; null: none yet")
    usable: float | None = Field(default=None, description="share of the last volumes that were not censored")
    warnings: int = Field(default=0, description="warnings and errors among the last messages")
    health: Literal["ok", "warning", "silent", "idle"] = Field(
        default="idle", description="silent: a run is on, and no volume has come for three TR; idle: no run is on"
    )


@router.post("/check", dependencies=[Depends(require("sessions:control"))], responses=responses(404))
def check(gateway: GatewayDependency, body: DryRun) -> DryRunOutcome:
    """The dry run: subject, scanner's address, bus, workers, card, disk, clock, bundle. Opens nothing."""
    subject = gateway.registry.get(body.subject)
    bundle = bundle_of(gateway, subject, body)
    checks = check_session(gateway, subject, bundle, body.protocol, body.client_t)
    return DryRunOutcome(ready=all(one.state != "failed" for one in checks), bundle=bundle, checks=checks)


@router.get(
    "/{session}/status",
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses=responses(404),
)
def status(gateway: GatewayDependency, session: SessionId) -> SessionStatus:
    """Run, volumes and health, from the end of the session's log: cheap enough to be asked for every few seconds."""
    record = gateway.sessions.get(session)
    found = SessionStatus(session=session, planned=record.protocol)
    journal = gateway.journal(session)
    tail = _tail(journal, session)
    warned = [message for message in tail if isinstance(message, Warned) and message.level != "info"]
    processed = [message for message in tail if isinstance(message, VolumeProcessed)]
    found.warnings = len(warned)
    if processed:
        found.usable = round(sum(not message.censored for message in processed) / len(processed), 3)
    last = next((m for m in reversed(tail) if isinstance(m, VolumeReceived | RunStarted | RunEnded)), None)
    if last is None:
        return found
    run = journal.run(last.run)
    found.run, found.volumes, found.planned_volumes = last.run, run.next_index, run.declared.n_volumes
    found.running = not run.ended and record.state == "open"
    found.last_volume_t = next((m.t for m in reversed(tail) if isinstance(m, VolumeReceived)), None)
    since = found.last_volume_t or run.declared.t
    if found.running:
        is_silent = gateway.now() - since > SILENT_TRS * run.declared.tr_s
        found.health = "silent" if is_silent else "warning" if warned else "ok"
    return found


def _tail(journal: Journal, session: str) -> list[object]:
    log = journal.messages
    entries = log.read(max(0, log.last_seq() - TAIL), TAIL)
    return [read_message(entry.payload, entry.seq, session) for entry in entries]
