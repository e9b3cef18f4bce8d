"""What the REST interface takes and gives, besides the messages themselves. No behaviour."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from mindsight.journal.sessions import SessionRecord
from mindsight.protocol.inputs import FdThreshold, Limits, SessionOptions
from mindsight.protocol.messages import Captioned, Digest, MotionOrder, Reconstruction, Result
from mindsight.volume import MAX_TR_S, MIN_TR_S
from service.keys import Role

SESSION_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_RUN = 9999

SessionId = Annotated[str, Path(pattern=SESSION_PATTERN, description="the session's id")]
RunNumber = Annotated[int, Path(ge=1, le=MAX_RUN, description="the run's number, from 1")]
VolumeIndex = Annotated[int, Path(ge=0, description="the volume's place in its run, from 0")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Enrol(_Body):
    bundle: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="the subject bundle that decodes this subject"
    )


class SetBundle(_Body):
    bundle: str = Field(pattern=NAME_PATTERN)


class Open(_Body):
    subject: str
    session: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an id of your own, which makes the request safe to repeat; else one is made up",
    )
    options: SessionOptions = SessionOptions()


class ChangeLimits(_Body):
    """What is named changes from the next volume on, the rest stays as it is."""

    change: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an id of your own for this change, which makes the request safe to repeat; else one is made up",
    )
    fd_mm: FdThreshold | None = Field(
        default=None,
        description="framewise displacement that censors a volume, mm; and is said, unless limits say else",
    )
    limits: Limits = Limits()


class SessionShown(SessionRecord):
    needs_n_volumes: bool = Field(
        default=False, description="whether a run has to be declared with its n_volumes, else it is not decoded"
    )


class LimitsTaken(_Body):
    change: str
    duplicate: bool


class DeclareRun(_Body):
    run: int = Field(ge=1, le=MAX_RUN)
    task: str = Field(pattern=r"^[A-Za-z0-9]{1,64}$", description="as in BIDS: letters and digits")
    tr_s: float = Field(ge=MIN_TR_S, lt=MAX_TR_S)
    n_volumes: int | None = Field(default=None, ge=1, le=100_000)
    motion: MotionOrder | None = Field(
        default=None,
        description="each volume brings six motion parameters in its payload: which three come first, in mm and"
        " radians; null: motion is estimated here",
    )


class Run(_Body):
    run: int
    task: str
    tr_s: float
    n_volumes: int | None
    next_index: int = Field(description="the volume that is expected next")
    ended: bool


class Event(_Body):
    """A stimulus. With a ``trial`` number, from 1 in its run, it is decoded; the number makes it safe to repeat."""

    onset_s: float = Field(description="seconds after the first volume of the run began")
    duration_s: float = Field(ge=0)
    trial: int | None = Field(default=None, ge=1, le=1_000_000)
    stimulus: Digest | None = Field(default=None, description="the picture shown, from POST /v1/images")
    candidate: str | None = Field(default=None, max_length=200, description="its id in the candidate pool")
    label: str | None = Field(default=None, max_length=200)
    stim_file: str | None = Field(
        default=None,
        max_length=200,
        description="the picture's file, as an events table has it; names the candidate where that is not given",
    )
    occurrence: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="for events without a trial: which of several equal ones this is; default: counted in the request",
    )


class EventNote(_Body):
    code: str
    text: str
    level: Literal["info", "warning"]


class EventsAdded(_Body):
    added: int
    duplicates: int
    notes: list[EventNote] = Field(
        default=[],
        description="rows of a table that were left out or read in a way that may not be meant; absent where none",
    )


class Missing(_Body):
    reason: str = Field(default="not received", max_length=200)


class Trouble(_Body):
    """Something that the sender of volumes noticed. Never a name, a path or an address."""

    code: str = Field(pattern=r"^[a-z0-9_.]{1,64}$", description="for a program; stable")
    text: str = Field(min_length=1, max_length=500, description="for a person")
    level: Literal["info", "warning", "error"] = "warning"
    run: int | None = Field(default=None, ge=1, le=MAX_RUN)
    index: int | None = Field(default=None, ge=0)


class TroubleTold(_Body):
    duplicate: bool = Field(description="the same was told before")


class VolumeAck(_Body):
    """The volume is on the disk and in the log; it need not be sent again."""

    index: int
    digest: Digest | None = Field(description="sha256 of the payload; null for a missing volume")
    durable: Literal[True] = True
    duplicate: bool
    next_index: int


class Image(_Body):
    digest: Digest


class Results(_Body):
    results: list[Result]
    reconstructions: list[Reconstruction]
    captions: list[Captioned]


class Health(_Body):
    status: Literal["ok"] = "ok"
    version: str
    waiting_betas: int = Field(description="betas that wait for an inference worker")


class Ticket(_Body):
    ticket: str = Field(description="offer 'mindsight.ticket.<ticket>' as WebSocket subprotocol, once")
    expires_s: float


class Mint(_Body):
    role: Role


class KeyInfo(_Body):
    id: str
    role: Role
    created_t: float


class NewKey(KeyInfo):
    key: str = Field(description="shown once; only its sha256 is kept")
