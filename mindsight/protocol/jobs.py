"""Jobs: work that takes longer than a request, what it is to do, and what it reports.

A job has one log of messages, numbered 1, 2, 3, ... like a session's. Knows nothing of how jobs are queued or carried
out. Names of persons, paths and addresses are in none of these.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from mindsight.protocol.base import Digest

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
JOB_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

State = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]
Outcome = Literal["done", "failed", "cancelled"]
Labels = Literal["trial_type", "stim_file"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CalibrationTask(_Frozen):
    """Make versions of a subject's bundle: from archived sessions, or from one session while it is being scanned."""

    kind: Literal["calibration"] = "calibration"
    subject: str = Field(max_length=64)
    sessions: tuple[str, ...] = Field(default=(), max_length=100, description="archived sessions, all of this subject")
    live: str | None = Field(default=None, max_length=64, description="a session that is open: each run improves it")
    pool: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="the candidate pool; without one, the labels are the candidates"
    )
    fine_tuning: bool = Field(
        default=False,
        description="whether gradient steps follow the closed form; needs a pool and a shared backbone",
    )
    activate: Literal["better", "never"] = Field(
        default="better", description="whether a version that is not worse than the active one replaces it"
    )

    @model_validator(mode="after")
    def _check_sources(self) -> CalibrationTask:
        if bool(self.sessions) == (self.live is not None):
            raise PydanticCustomError("sources", "expected archived sessions or one live session")
        if len(set(self.sessions)) != len(self.sessions):
            raise PydanticCustomError("sources", "expected each session once")
        return self


class PoolImage(_Frozen):
    id: str = Field(min_length=1, max_length=200, description="the candidate's id, which events name")
    image: Digest


class PoolTask(_Frozen):
    """Build a candidate pool from images: those that were uploaded, or those in a folder of the service's stimuli."""

    kind: Literal["pool"] = "pool"
    pool: str = Field(pattern=NAME_PATTERN)
    images: tuple[PoolImage, ...] = Field(default=(), max_length=10_000)
    folder: str | None = Field(default=None, pattern=NAME_PATTERN, description="its name in the data folder's stimuli/")

    @model_validator(mode="after")
    def _check_sources(self) -> PoolTask:
        if bool(self.images) == (self.folder is not None):
            raise PydanticCustomError("sources", "expected images or the name of a folder of stimuli")
        if len({image.id for image in self.images}) != len(self.images):
            raise PydanticCustomError("sources", "expected each candidate once")
        return self


class ErasureTask(_Frozen):
    """Erase a subject, or one of its sessions: archives, bundles, jobs, and what only they refer to."""

    kind: Literal["erasure"] = "erasure"
    subject: str = Field(max_length=64)
    session: str | None = Field(default=None, max_length=64, description="only this one; null: the whole subject")


class SimulationTask(_Frozen):
    """Stream runs of the demo's simulated participant into an open session, as a console would."""

    kind: Literal["simulation"] = "simulation"
    session: str = Field(max_length=64)
    subject: str = Field(max_length=64)
    runs: int = Field(default=2, ge=1, le=24)
    trials: int = Field(default=30, ge=6, le=100, description="in each run; one of ten is a second showing")
    speed: float = Field(default=4.0, ge=0.1, le=1000.0, description="times real time")
    seed: int = Field(default=21, ge=0, description="of the order of the images, the noise and the movement")
    close: bool = Field(default=True, description="whether the session is closed after the last run")


Task = Annotated[CalibrationTask | PoolTask | ErasureTask | SimulationTask, Field(discriminator="kind")]


class JobRecord(_Frozen):
    """A job, and its state. ``attempt`` : how often it was queued: once, and again each time it was resumed."""

    job: str = Field(pattern=JOB_PATTERN)
    task: Task
    created_t: float = Field(description="seconds since the Unix epoch")
    state: State = "queued"
    attempt: int = Field(default=1, ge=1)

    @property
    def exclusive(self) -> str:
        """What only one unfinished job may work on."""
        match self.task:
            case PoolTask():
                return f"pool {self.task.pool}"
            case SimulationTask():
                return f"scanner of {self.task.session}"
            case _:
                return f"subject {self.task.subject}"


class _Message(_Frozen):
    v: Literal[1] = 1
    id: int = Field(default=0, ge=0, description="number in the job's log, from 1; 0 before it is written")
    job: str
    t: float = Field(description="when it was written, seconds since the Unix epoch")


class JobBegan(_Message):
    """A worker has taken the job; again, after one that was ended before it was done."""

    type: Literal["job.began"] = "job.began"


class JobProgress(_Message):
    type: Literal["job.progress"] = "job.progress"
    step: str = Field(description="what is being done")
    done: int = Field(ge=0)
    n: int | None = Field(default=None, ge=0, description="of how many; null: not known beforehand")
    left_s: float | None = Field(default=None, ge=0, description="time left of this step; null: not known yet")


class JobNote(_Message):
    """Something that a person should know, such as a run that was left out."""

    type: Literal["job.note"] = "job.note"
    code: str
    text: str
    level: Literal["info", "warning"] = "warning"


class JobLearned(_Message):
    """One point of the learning curve: the accuracy on trials that the decoder was not fitted to."""

    type: Literal["job.learned"] = "job.learned"
    n_runs: int = Field(ge=1)
    n_trials: int = Field(ge=1)
    minutes: float | None = Field(default=None, ge=0, description="of scanning so far")
    accuracy: float = Field(ge=0, le=1, description="share of held-out trials whose first candidate is right")
    low: float = Field(ge=0, le=1, description="95 % interval")
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=0, description="held-out trials")
    chance: float = Field(ge=0, le=1)


class JobTuned(_Message):
    """A look, between gradient steps, at images that are not trained on: they decide when to stop."""

    type: Literal["job.tuned"] = "job.tuned"
    steps: int = Field(ge=0, description="gradient steps so far, from the closed form")
    loss: float | None = Field(
        default=None, description="mean negative log probability of what held-out trials showed; null: not finite"
    )


class VersionMade(_Message):
    """A version of the subject's bundle, and whether sessions use it from now on."""

    type: Literal["version.made"] = "version.made"
    version: int = Field(ge=1)
    bundle: str
    digest: Digest
    active: bool
    text: str = Field(description="why it replaced the one before, or did not")


class JobEnded(_Message):
    type: Literal["job.ended"] = "job.ended"
    outcome: Outcome
    code: str | None = Field(default=None, description="of a failure; for a program, stable")
    text: str


JobMessage = Annotated[
    JobBegan | JobProgress | JobNote | JobLearned | JobTuned | VersionMade | JobEnded, Field(discriminator="type")
]

_MESSAGE: TypeAdapter[JobMessage] = TypeAdapter(JobMessage)


def parse_job_message(payload: bytes | str, id: int | None = None) -> JobMessage:
    """Read a message from its JSON; ``id`` replaces the one inside: only the log knows the message's number."""
    message = _MESSAGE.validate_json(payload)
    return message if id is None else message.model_copy(update={"id": id})


def dump_job_message(message: JobMessage) -> bytes:
    return message.model_dump_json(exclude_none=True).encode()
