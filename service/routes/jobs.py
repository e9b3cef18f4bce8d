"""REST: jobs: how far each has come, its messages, cancelling, resuming. Knows nothing of how they are carried out."""

from __future__ import annotations

import secrets
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, ValidationError

from mindsight.errors import BadRequest
from mindsight.protocol.jobs import (
    JOB_PATTERN,
    CalibrationTask,
    JobMessage,
    JobProgress,
    JobRecord,
    PoolTask,
    Task,
)
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import explain_validation, responses
from service.routes.common import Body

PAGE = 500
T = TypeVar("T", CalibrationTask, PoolTask)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern=JOB_PATTERN, description="the job's id")]


class JobShown(JobRecord):
    """A job, and the last that it reported of how far it is."""

    progress: JobProgress | None = None
    n_messages: int = Field(default=0, description="number of its last message")


class JobMessages(Body):
    messages: list[JobMessage] = Field(description="after the number asked for, in order; ask again after the last")


@router.get(
    "",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_jobs(gateway: GatewayDependency, page: PageDependency) -> list[JobRecord]:
    """All jobs, in the order in which they were created."""
    return page.of(gateway.jobs.list(), lambda record: record.job)


@router.get("/{job}", dependencies=[Depends(require("subjects:write", "events:read"))], responses=responses(404))
def get_job(gateway: GatewayDependency, job: JobId) -> JobShown:
    """What the job is to do, its state, and how far it has come."""
    record = gateway.jobs.get(job)
    last = gateway.jobs.log(job).last_seq()
    recent = list(gateway.jobs.messages(job, max(0, last - 50)))
    progress = next((message for message in reversed(recent) if isinstance(message, JobProgress)), None)
    return JobShown(**record.model_dump(), progress=progress, n_messages=last)


@router.get(
    "/{job}/messages", dependencies=[Depends(require("subjects:write", "events:read"))], responses=responses(404)
)
def get_messages(
    gateway: GatewayDependency,
    job: JobId,
    after: Annotated[int, Query(ge=0, description="the id of the last message received")] = 0,
) -> JobMessages:
    """The job's messages after a number: progress with the time left, the learning curve, versions, how it ended."""
    gateway.jobs.get(job)
    return JobMessages(messages=gateway.jobs.page(job, after, PAGE))


@router.delete("/{job}", dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409))
def cancel_job(gateway: GatewayDependency, job: JobId) -> JobRecord:
    """Cancel a job. It ends within seconds; what it has made so far stays, and it can be resumed."""
    return gateway.jobs.cancel(job)


@router.post("/{job}/resume", dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409, 507))
def resume_job(gateway: GatewayDependency, job: JobId) -> JobRecord:
    """Queue a job again that failed or was cancelled. It goes on from what it has."""
    return gateway.jobs.resume(job)


def task_of(kind: type[T], **given: object) -> T:
    """The task of a request. Raises BadRequest for what is missing or too much."""
    try:
        return kind(**given)
    except ValidationError as error:
        raise BadRequest(explain_validation(error.errors())) from None


def create(gateway: Gateway, task: Task, job: str | None) -> JobRecord:
    """Queue a task; a made-up id if none is given."""
    record = JobRecord(job=job or f"job-{secrets.token_hex(4)}", task=task, created_t=gateway.now())
    return gateway.jobs.create(record)
