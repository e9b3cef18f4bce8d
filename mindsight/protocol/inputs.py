"""What the ingest worker is told, as a closed, versioned union: one input log per session, in one total order.

The position of an event among the volumes is part of the record, so that a replay of the log gives the same bits.
Knows nothing of how entries travel. An entry's ``key`` names it in the log, and its ``identity`` is what makes a retry
the same entry: everything that was declared, without the times at which it was.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mindsight.protocol.messages import Digest

_TIMES = frozenset({"t", "acked_t", "acquired_s"})

SESSION_KEY = "session"
CLOSED_KEY = "session-closed"


def run_key(run: int) -> str:
    return f"run-{run}"


def run_ended_key(run: int) -> str:
    return f"run-{run}-ended"


def volume_key(run: int, index: int) -> str:
    """Of a volume, and of its absence: an index is either received or missing."""
    return f"volume-{run}-{index}"


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    t: float = Field(description="when it was written, seconds since the Unix epoch")

    @property
    def key(self) -> str:
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """sha256 of what was declared; the same for a retry."""
        return hashlib.sha256(self.model_dump_json(exclude=set(_TIMES)).encode()).hexdigest()


class SessionOptions(BaseModel):
    """How a session is to be decoded. None leaves it to the worker or the subject bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blinded: bool = Field(default=False, description="the people who watch are not to know what was shown")
    fast_s: float | None = Field(default=None, gt=0, lt=60, description="seconds after onset of the fast answer")
    revised_s: float | None = Field(default=None, gt=0, lt=120, description="seconds after onset of the revised answer")
    fd_mm: float | None = Field(default=None, gt=0, lt=50, description="framewise displacement that censors a volume")


class OpenSession(_Base):
    type: Literal["session.open"] = "session.open"
    session: str
    subject: str
    bundle: str | None = None
    options: SessionOptions = SessionOptions()

    @property
    def key(self) -> str:
        return SESSION_KEY


class StartRun(_Base):
    type: Literal["run.start"] = "run.start"
    run: int = Field(ge=1)
    task: str
    tr_s: float = Field(gt=0, lt=60)
    n_volumes: int | None = Field(default=None, ge=1)

    @property
    def key(self) -> str:
        return run_key(self.run)


class AddEvent(_Base):
    """A stimulus. ``trial`` numbers what is to be decoded from 1 in its run; None for the rest."""

    type: Literal["event.add"] = "event.add"
    run: int = Field(ge=1)
    trial: int | None = Field(default=None, ge=1)
    onset_s: float
    duration_s: float = Field(ge=0)
    stimulus: Digest | None = None
    candidate: str | None = None
    label: str | None = None

    @property
    def key(self) -> str:
        if self.trial is not None:
            return f"event-{self.run}-{self.trial}"
        return f"event-{self.run}-at-{self.onset_s!r}-{self.label or ''}"


class TakeVolume(_Base):
    """A volume that is durable in the blob store."""

    type: Literal["volume"] = "volume"
    run: int = Field(ge=1)
    index: int = Field(ge=0)
    digest: Digest
    shape: tuple[int, int, int]
    nbytes: int
    acquired_s: float | None = Field(default=None, description="when the scanner took it, seconds since the Unix epoch")
    acked_t: float = Field(description="when the gateway logged it, and so could acknowledge it")

    @property
    def key(self) -> str:
        return volume_key(self.run, self.index)


class SkipVolume(_Base):
    """A volume that will not come."""

    type: Literal["volume.missing"] = "volume.missing"
    run: int = Field(ge=1)
    index: int = Field(ge=0)
    reason: str

    @property
    def key(self) -> str:
        return volume_key(self.run, self.index)


class EndRun(_Base):
    type: Literal["run.end"] = "run.end"
    run: int = Field(ge=1)

    @property
    def key(self) -> str:
        return run_ended_key(self.run)


class CloseSession(_Base):
    type: Literal["session.close"] = "session.close"

    @property
    def key(self) -> str:
        return CLOSED_KEY


Input = Annotated[
    OpenSession | StartRun | AddEvent | TakeVolume | SkipVolume | EndRun | CloseSession,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Input] = TypeAdapter(Input)


def parse_input(payload: bytes | str) -> Input:
    """One entry from its JSON."""
    return _ADAPTER.validate_json(payload)


def dump_input(entry: Input) -> bytes:
    """The entry as compact JSON."""
    return entry.model_dump_json(exclude_none=True).encode()
