"""REST: sessions, from opening to closing; their limits and warnings. Knows nothing of how they are kept."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from mindsight.errors import BadRequest
from mindsight.journal.sessions import Protocol, SessionRecord
from mindsight.protocol.inputs import FdThreshold, Limits, SessionOptions, SetLimits, UsableMinutes
from mindsight.protocol.jobs import ErasureTask, JobRecord
from mindsight.subjects.registry import Subject
from service import bundles, erasures, rois
from service.auth import Caller, require
from service.blinding import may_see_truth
from service.context import Gateway, GatewayDependency
from service.paging import MOST, NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes.common import MAX_RUN, NAME_PATTERN, SESSION_PATTERN, Body, Sent, SessionId

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


@router.delete(
    "/{session}",
    status_code=202,
    dependencies=[Depends(require("admin"))],
    responses=responses(404, 409, 507),
)
def erase_session(gateway: GatewayDependency, session: SessionId) -> JobRecord:
    """Erase an archived session, as a job: its logs, payloads and archive, the bundles that were calibrated from it,
    and the jobs that were about it. Its subject stays.

    It cannot be undone. Refused while a session of the subject is not archived (``subject.busy``), or a job works on it
    (``job.busy``).
    """
    record = gateway.sessions.get(session)
    return erasures.erase(gateway, ErasureTask(subject=record.subject, session=session))


class Open(Sent):
    subject: str
    session: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )
    bundle: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="decodes it; by default the subject's active one"
    )
    decoding: bool = Field(default=True, description="false: it is opened without a bundle, and betas are not decoded")
    options: SessionOptions = SessionOptions()
    protocol: Protocol | None = Field(default=None, description="what is planned, for those who start runs")
    calibration: bool = Field(
        default=False,
        description="whether the subject is calibrated from this session while it is scanned: it is opened without a"
        " bundle, and its betas are z-scored by run",
    )


class ChangeLimits(Sent):
    """The limits named here change from the next volume on; all others stay as they are."""

    change: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )
    fd_mm: FdThreshold | None = Field(
        default=None,
        description="framewise displacement above which a volume is censored, mm; also raises an alert, unless"
        " limits.fd_mm is given",
    )
    limits: Limits = Limits()
    usable_min: UsableMinutes | None = Field(
        default=None, description="minutes of usable data that the session shall give; what is still needed is shown"
    )


class SessionShown(SessionRecord):
    needs_n_volumes: bool = Field(
        default=False, description="whether a run is decoded only if it is declared with its n_volumes"
    )
    sees_truth: bool = Field(description="whether this key is sent what was shown, see blinded")


class LimitsChanged(Body):
    change: str
    duplicate: bool


class ConsoleWarning(Sent):
    """A fault that the sender of volumes noticed. Must not contain a name, a path or an address."""

    code: str = Field(pattern=r"^[a-z0-9_.]{1,64}$", description="for a program; stable")
    text: str = Field(min_length=1, max_length=500, description="for a person")
    level: Literal["info", "warning", "error"] = "warning"
    run: int | None = Field(default=None, ge=1, le=MAX_RUN)
    index: int | None = Field(default=None, ge=0)


class WarningAdded(Body):
    duplicate: bool = Field(description="whether the same warning was sent before")


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def open_session(gateway: GatewayDependency, body: Open) -> SessionRecord:
    """Open a session for an enrolled subject. Repeating it with the same id and settings changes nothing."""
    subject = gateway.registry.get(body.subject)
    subject.check_use("calibration" if body.calibration else "decoding", gateway.now())
    bundle, options = bundle_of(gateway, subject, body), body.options
    if body.calibration:
        options = options.model_copy(update={"normalise": "run"})
    bundles.check_pairs(gateway.settings, bundle, options.pairs)
    record = SessionRecord(
        session=body.session or f"ses-{secrets.token_hex(4)}",
        subject=subject.subject,
        bundle=bundle,
        options=options,
        protocol=body.protocol,
        opened_t=gateway.now(),
    )
    opened = gateway.recorder(record.session).open(record, bundles.pool_size(gateway.settings, bundle))
    rois.declare_known(gateway, record.session, subject.subject)
    return opened


def bundle_of(gateway: Gateway, subject: Subject, body: Open) -> str | None:
    """What is to decode the session. Raises NotFound (``bundle.unknown``), BadRequest for one where none is wanted."""
    if body.calibration or not body.decoding:
        if body.bundle is not None:
            raise BadRequest("expected a bundle, or a session without one, got both: leave one of them out")
        return None
    bundles.check_exists(gateway.settings, body.bundle)
    return body.bundle or subject.bundle


@router.get(
    "",
    dependencies=[Depends(require("sessions:control", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_sessions(
    gateway: GatewayDependency,
    page: PageDependency,
    subject: Annotated[str | None, Query(max_length=64, description="only this subject's")] = None,
    newest: Annotated[
        int | None, Query(ge=1, le=MOST, description="only so many, those that were opened last; by default all")
    ] = None,
) -> list[SessionRecord]:
    """Sessions, in the order in which they were opened."""
    return page.of(gateway.sessions.list(subject=subject, newest=newest), lambda record: record.session)


@router.get("/{session}", responses=responses(404))
def get_session(
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("sessions:control", "volumes:write", "events:read"))],
) -> SessionShown:
    """What the session was opened with, and its state."""
    record = gateway.sessions.get(session)
    needs_n_volumes = bundles.needs_n_volumes(gateway.settings, record.bundle)
    truth = may_see_truth(record, caller)
    return SessionShown(**record.model_dump(), needs_n_volumes=needs_n_volumes, sees_truth=truth)


@router.post(
    "/{session}/close",
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 507),
)
def close_session(gateway: GatewayDependency, session: SessionId) -> SessionRecord:
    """Close a session: nothing more is accepted; what was accepted is decoded and archived."""
    return gateway.recorder(session).close()


@router.post(
    "/{session}/warnings",
    status_code=201,
    dependencies=[Depends(require("sessions:control", "volumes:write"))],
    responses=responses(404, 409, 507),
)
def add_warning(gateway: GatewayDependency, session: SessionId, body: ConsoleWarning) -> WarningAdded:
    """Report a fault at the scanner's side to everyone who watches. Sending the same again changes nothing."""
    appended = gateway.recorder(session).warn(**body.model_dump())
    return WarningAdded(duplicate=appended.duplicate)


@router.post(
    "/{session}/limits",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def change_limits(gateway: GatewayDependency, session: SessionId, body: ChangeLimits) -> LimitsChanged:
    """Change limits of quality during a session: what censors a volume, what raises an alert, how much data is enough.

    The change is recorded between two volumes of the session's input log, so that a replay gives the same betas.
    """
    change = body.change or secrets.token_hex(8)
    declared = SetLimits(
        t=gateway.now(), change=change, fd_mm=body.fd_mm, limits=body.limits, usable_min=body.usable_min
    )
    appended = gateway.recorder(session).set_limits(declared)
    return LimitsChanged(change=change, duplicate=appended.duplicate)
