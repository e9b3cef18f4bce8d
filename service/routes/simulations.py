"""REST: the simulated scanner: a job that streams the demo's participant into a session, as a console would.

Knows nothing of the simulation. The job gets a key of its own, for this session, which expires by itself.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.errors import Conflict
from mindsight.files.durable import make_folder, write_durably
from mindsight.journal.sessions import Protocol, SessionRecord
from mindsight.protocol.jobs import JOB_PATTERN, JobRecord, SimulationTask
from mindsight.subjects.registry import Consent
from service import bundles
from service.auth import Caller, Forbidden, require
from service.context import Gateway, GatewayDependency
from service.demo_bundle import install_demo_bundle
from service.problems import responses
from service.routes import jobs
from service.routes.common import SESSION_PATTERN, Body, Sent

KEY_S = 8 * 3600.0
_CONSENT = Consent(
    uses={"decoding": "laboratory", "calibration": "laboratory", "export": "laboratory"}, form="simulated"
)
_TR_S = 1.5  # of the simulated scanner

router = APIRouter(prefix="/v1/simulations", tags=["sessions"])


class Simulate(Sent):
    session: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an open session to stream into; by default a simulated subject is enrolled and one is opened",
    )
    runs: int = Field(default=2, ge=1, le=24)
    trials: int = Field(default=30, ge=6, le=100, description="in each run")
    speed: float = Field(default=4.0, ge=0.1, le=1000.0, description="times real time")
    seed: int = Field(default=21, ge=0, description="of the order of the images, the noise and the movement")
    close: bool = Field(default=True, description="whether the session is closed after the last run")
    job: str | None = Field(
        default=None,
        pattern=JOB_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )


class Simulation(Body):
    session: str
    subject: str
    job: str = Field(description="the job that streams, see /v1/jobs")


@router.post("", status_code=201, responses=responses(404, 409, 507))
def simulate(
    gateway: GatewayDependency,
    caller: Annotated[Caller, Depends(require("sessions:control"))],
    body: Simulate,
) -> Simulation:
    """Run the simulated scanner, in this service: only scanner and participant are simulated.

    One at a time for a session: a second one is refused with ``job.busy``.
    """
    if body.session is None and "subjects:write" not in caller.key.scopes:
        raise Forbidden("expected a key with the scope subjects:write, to enrol a simulated subject", code="auth.scope")
    job = body.job or f"sim-{secrets.token_hex(4)}"
    if gateway.jobs.has(job):
        return _there(gateway, job)
    record = _opened(gateway, job) if body.session is None else gateway.sessions.get(body.session)
    if record.state != "open":
        raise Conflict("the session is closed; open another one", code="session.closed")
    given = body.model_dump(include={"runs", "trials", "speed", "seed", "close"})
    task = SimulationTask(session=record.session, subject=record.subject, **given)
    holder = gateway.jobs.holder(JobRecord(job=job, task=task, created_t=gateway.now()).exclusive)
    if holder is None:  # otherwise the next line says which job is at work
        _leave_key(gateway, record.session, job)
    created = jobs.create(gateway, task, job)
    return Simulation(session=record.session, subject=record.subject, job=created.job)


def _there(gateway: Gateway, job: str) -> Simulation:
    task = gateway.jobs.get(job).task
    if not isinstance(task, SimulationTask):
        raise Conflict("a job of this name was created for something else; choose another name", code="job.exists")
    return Simulation(session=task.session, subject=task.subject, job=job)


def _opened(gateway: Gateway, job: str) -> SessionRecord:
    """A session of a simulated subject, named after the job, so that a repeat finds it."""
    session = f"ses-{job}"
    found = next((record for record in gateway.sessions.unfinished() if record.session == session), None)
    if found is not None:
        return found
    bundle = install_demo_bundle(gateway.settings)
    subject = gateway.registry.enrol(gateway.now(), bundle, _CONSENT)
    record = SessionRecord(
        session=session,
        subject=subject.subject,
        bundle=bundle,
        protocol=Protocol(task="view", tr_s=_TR_S),
        opened_t=gateway.now(),
    )
    return gateway.recorder(session).open(record, bundles.pool_size(gateway.settings, bundle))


def _leave_key(gateway: Gateway, session: str, job: str) -> None:
    _, text = gateway.keys.mint("console", f"simulation {job}", session=session, ttl_s=KEY_S)
    folder = gateway.settings.jobs_dir / job
    make_folder(folder)
    write_durably(folder / "console.key", text.encode(), mode=0o600)
