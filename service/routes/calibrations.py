"""REST: calibrations of a subject, each of which is a job. What cannot succeed is refused before any time is spent."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.errors import Conflict, NotFound
from mindsight.protocol.inputs import AddEvent
from mindsight.protocol.jobs import JOB_PATTERN, CalibrationTask, JobRecord
from mindsight.subjects.needed import check_labels, check_tuned
from service import bundles
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes import jobs
from service.routes.common import NAME_PATTERN, SESSION_PATTERN, Sent

router = APIRouter(prefix="/v1/subjects/{subject}/calibrations", tags=["calibrations"])


class Calibrate(Sent):
    sessions: list[str] = Field(
        default=[],
        max_length=100,
        description="archived sessions of the subject; with neither these nor live, all that are archived",
    )
    live: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="a session opened with calibration=true: each run gives a version, which decodes the runs after it",
    )
    pool: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="candidate pool; without one, the labels are the candidates"
    )
    fine_tuning: bool = Field(
        default=False, description="whether gradient steps follow the closed form; needs a pool and a shared backbone"
    )
    activate: Literal["better", "never"] = "better"
    job: str | None = Field(
        default=None,
        pattern=JOB_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )


@router.post("", status_code=201, dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409, 507))
def start_calibration(gateway: GatewayDependency, subject: str, body: Calibrate) -> JobRecord:
    """Calibrate a subject. One calibration of a subject at a time: a second one is refused with ``job.busy``."""
    gateway.registry.get(subject).check_use("calibration", gateway.now())
    sessions = body.sessions or ([] if body.live is not None else _archived(gateway, subject))
    named = body.model_dump(include={"live", "pool", "fine_tuning", "activate"})
    task = jobs.task_of(CalibrationTask, subject=subject, sessions=tuple(sessions), **named)
    bundles.check_pool(gateway.settings, body.pool)
    if body.fine_tuning and (body.pool is None or gateway.settings.backbone_dir is None):
        raise Conflict(
            "expected a pool and a service with a shared backbone for fine-tuning, got neither or one: name a pool, and"
            " set MINDSIGHT_BACKBONE_DIR",
            code="calibration.backbone",
        )
    if body.live is not None:
        _check_live(gateway, subject, body.live)
    else:
        runs = _archived_labels(gateway, subject, sessions, body.pool)
        check_labels(runs, bundles.pool_candidates(gateway.settings, body.pool))
        if body.fine_tuning:
            check_tuned(runs)
    return jobs.create(gateway, task, body.job)


@router.get(
    "",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_calibrations(gateway: GatewayDependency, subject: str, page: PageDependency) -> list[JobRecord]:
    """The subject's calibrations, in the order in which they were created; each is a job, see /v1/jobs."""
    gateway.registry.get(subject)
    records = gateway.jobs.list()
    found = [r for r in records if isinstance(r.task, CalibrationTask) and r.task.subject == subject]
    return page.of(found, lambda record: record.job)


def _archived(gateway: Gateway, subject: str) -> list[str]:
    found = [r.session for r in gateway.sessions.list(subject=subject) if r.state == "archived"]
    if not found:
        raise Conflict(
            "expected a session of this subject that is archived, got none: scan one and close it, or name an open one"
            " as live",
            code="calibration.sessions",
        )
    return found


def _check_live(gateway: Gateway, subject: str, session: str) -> None:
    record = gateway.sessions.get(session)
    if record.subject != subject:
        raise NotFound(f"there is no session {session} of this subject", code="session.unknown")
    if record.state != "open":
        raise Conflict(
            "expected an open session to calibrate from live, got one that is closed: name it in sessions",
            code="session.closed",
        )
    opened = gateway.journal(session).opened()
    if opened.bundle is not None or opened.options.normalise != "run":
        raise Conflict(
            "expected a session that was opened to calibrate from, got one to decode: open it with calibration=true",
            code="calibration.session",
        )


def _archived_labels(gateway: Gateway, subject: str, sessions: list[str], pool: str | None) -> list[list[str]]:
    """What the trials of each run showed, as the sessions' own logs say."""
    runs: list[list[str]] = []
    for session in sessions:
        record = gateway.sessions.get(session)
        if record.subject != subject:
            raise NotFound(f"there is no session {session} of this subject", code="session.unknown")
        if record.state != "archived":
            raise Conflict(
                f"expected an archived session, {session} is {record.state}: close it and wait for its archive",
                code="session.not_archived",
            )
        labels: dict[int, list[str]] = {}
        for entry in gateway.journal(session).read_inputs():
            if isinstance(entry, AddEvent) and entry.trial is not None:
                shown = entry.label if pool is None else entry.candidate
                if shown is not None:
                    labels.setdefault(entry.run, []).append(shown)
        runs += labels.values()
    return runs
