"""REST: runs, declared before their first volume and ended after their last."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.journal.read import RunStatus
from mindsight.protocol.inputs import StartRun
from mindsight.protocol.messages import MotionOrder
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S
from service.auth import require
from service.context import GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes.common import MAX_RUN, Body, RunNumber, Sent, SessionId

router = APIRouter(prefix="/v1/sessions/{session}/runs", tags=["runs"])


class DeclareRun(Sent):
    run: int = Field(ge=1, le=MAX_RUN)
    task: str = Field(pattern=r"^[A-Za-z0-9]{1,64}$", description="as in BIDS: letters and digits")
    tr_s: float = Field(ge=MIN_TR_S, lt=MAX_TR_S)
    n_volumes: int | None = Field(default=None, ge=1, le=100_000)
    motion: MotionOrder | None = Field(
        default=None,
        description="the order of the six motion parameters (mm, radians) that each volume's payload contains;"
        " null: motion is estimated here",
    )


class Run(Body):
    run: int
    task: str
    tr_s: float
    n_volumes: int | None
    next_index: int = Field(description="the volume that is expected next")
    ended: bool


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def declare_run(gateway: GatewayDependency, session: SessionId, body: DeclareRun) -> Run:
    """Declare a run before its first volume. Repeating the same declaration changes nothing."""
    gateway.recorder(session).start_run(StartRun(t=gateway.now(), **body.model_dump()))
    return _run(gateway.journal(session).run(body.run))


@router.get(
    "",
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_runs(gateway: GatewayDependency, session: SessionId, page: PageDependency) -> list[Run]:
    """All declared runs, in the order of their declaration."""
    gateway.sessions.get(session)
    return page.of([_run(status) for status in gateway.journal(session).runs()], lambda run: str(run.run))


@router.get(
    "/{run}",
    dependencies=[Depends(require("sessions:control", "volumes:write", "events:read"))],
    responses=responses(404),
)
def get_run(gateway: GatewayDependency, session: SessionId, run: RunNumber) -> Run:
    """How far the run has come; an interrupted console resumes at ``next_index``."""
    return _run(gateway.journal(session).run(run))


@router.post(
    "/{run}/end",
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def end_run(gateway: GatewayDependency, session: SessionId, run: RunNumber) -> Run:
    """End a run: its final results follow. Ending an ended run changes nothing."""
    return _run(gateway.recorder(session).end_run(run))


def _run(status: RunStatus) -> Run:
    declared: dict[str, Any] = status.declared.model_dump(include={"run", "task", "tr_s", "n_volumes"})
    return Run(**declared, next_index=status.next_index, ended=status.ended)
