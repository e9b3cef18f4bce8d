"""What the ingest worker is told, as a closed, versioned union: one input log per session, in one total order.

The position of an event among the volumes is part of the record, so that a replay of the log gives the same bits.
Knows nothing of how entries travel. An entry's ``key`` names it in the log, and its ``identity`` is what makes a retry
the same entry: everything that was declared, without the times at which it was.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mindsight.protocol.messages import Digest, MotionOrder
from mindsight.stages import STAGES
from mindsight.volume import MAX_TR_S, MIN_TR_S

_TIMES = {"t", "acked_t", "acquired_s"}
_IN_KEY = {"occurrence"}
_LATER = {"stim_file", "motion"}  # fields that came after the first release: not there is what None is

SESSION_KEY = "session"
CLOSED_KEY = "session-closed"


def run_key(run: int) -> str:
    return f"run-{run}"


def run_ended_key(run: int) -> str:
    return f"run-{run}-ended"


def limits_key(change: str) -> str:
    return f"limits-{change}"


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
        """sha256 of what was declared; the same for a retry, also of one that a version before these fields wrote."""
        later = {name for name in _LATER & type(self).model_fields.keys() if getattr(self, name) is None}
        return hashlib.sha256(self.model_dump_json(exclude=_TIMES | _IN_KEY | later).encode()).hexdigest()


def _number_or_off(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One plain sentence where a union would give two."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("limit", "expected a number from 0 on, or 'off'") from None


Limit = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["off"] | None, WrapValidator(_number_or_off)
]
Window = Annotated[int, Field(ge=1, le=1000)]


class Limits(BaseModel):
    """What is too much of each figure of quality: a number, or "off" for never said. What is not named stays as it is.

    As ``preprocessing.alerts.QualityLimits``, which says where the defaults come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fd_mm: Limit = Field(default=None, description="framewise displacement of one volume, mm (default 0.5)")
    displacement_mm: Limit = Field(
        default=None,
        description="the head's distance from the reference, mm (3): of its centre, and the rotation's arc on a 50 mm "
        "sphere, as run.placed has it",
    )
    censored_share: Limit = Field(default=None, description="share of the window that cannot be used, 0 to 1 (0.2)")
    dvars_ratio: Limit = Field(default=None, description="DVARS of one volume over the run's median (1.5)")
    tsnr_ratio: Limit = Field(default=None, description="tSNR over the calibration's; less is bad (0.7)")
    tsnr_start_ratio: Limit = Field(default=None, description="tSNR over the run's start; less is bad (0.7)")
    drift_percent: Limit = Field(default=None, description="mean signal against the run's start, % (3)")
    signal_percent: Limit = Field(default=None, description="mean signal against the calibration's, % (20)")
    residual: Limit = Field(default=None, description="share of a volume the reference does not explain, 0 to 1 (0.2)")
    outlier_share: Limit = Field(
        default=None, description="share of the window's slices that do not fit, 0 to 1 (0.01)"
    )
    spikes: Limit = Field(default=None, description="spikes in the window that are borne (0)")
    unplaced: Limit = Field(default=None, description="volumes of the window without a pose that are borne (0)")
    window_volumes: Window | None = Field(default=None, description="volumes that shares and counts look back (30)")
    settle_volumes: Window | None = Field(default=None, description="volumes until a run's own level is known (10)")
    quiet_volumes: Window | None = Field(default=None, description="quiet volumes until a condition is over (10)")

    def on(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """All limits: what is named here, on top of ``earlier``; None is off."""
        named = self.model_dump(exclude_none=True)
        return earlier | {name: None if value == "off" else value for name, value in named.items()}


FdThreshold = Annotated[float, Field(gt=0, lt=50)]
Seconds = Annotated[float, Field(gt=0, lt=600)]
Volumes = Annotated[int, Field(ge=1, le=1000)]
CandidateId = Annotated[str, Field(min_length=1, max_length=200)]
Normalise = Literal["bundle", "running", "running_including", "run"]


class SessionOptions(BaseModel):
    """How a session is to be decoded. None leaves it to the subject bundle, or to the default in brackets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blinded: bool = Field(default=False, description="the people who watch are not to know what was shown")
    fast_s: Seconds | None = Field(default=None, description="seconds after onset of the fast answer (7.5)")
    fast_volumes: Volumes | None = Field(default=None, description="the same in volumes; instead of fast_s")
    revised_s: Seconds | None = Field(default=None, description="seconds after onset of the revised answer (27.5)")
    revised_volumes: Volumes | None = Field(default=None, description="the same in volumes; instead of revised_s")
    final_s: Seconds | None = Field(
        default=None, description="seconds after onset of the final answer (at the end of the run, as for late trials)"
    )
    final_volumes: Volumes | None = Field(default=None, description="the same in volumes; instead of final_s")
    fd_mm: FdThreshold | None = Field(
        default=None, description="framewise displacement that censors a volume, mm (0.5); and is said, see limits"
    )
    limits: Limits = Field(default=Limits(), description="when somebody is told of bad quality")
    normalise: Normalise | None = Field(
        default=None,
        description="what betas are z-scored by: the bundle's statistics; all other trials of the session so far"
        " (running), or these and the present one (running_including); all trials of the run so far (run)",
    )
    min_betas: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None, description="warm-up: fewer betas are no statistics (6)"
    )
    prior_betas: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="as how many betas the bundle's statistics count in running ones (16)"
    )
    std_floor: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="lowest standard deviation of a voxel, as a share of the voxels' median (0.1)"
    )
    average_repeats: bool = Field(
        default=False,
        description="answer from all trials so far that showed the same picture (its digest, candidate or file)",
    )

    pairs: tuple[tuple[CandidateId, CandidateId], ...] = Field(
        default=(),
        max_length=100,
        description="candidates that look alike, two and two: every answer also says which of each is nearer",
    )

    @model_validator(mode="after")
    def _two_and_two(self) -> SessionOptions:
        if len({frozenset(pair) for pair in self.pairs if pair[0] != pair[1]}) != len(self.pairs):
            raise PydanticCustomError("pairs", "expected pairs of two different candidates, each pair once")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> SessionOptions:
        for unit in ("s", "volumes"):
            given = [getattr(self, f"{stage}_{unit}") for stage in STAGES]
            waits = [wait for wait in given if wait is not None]
            if waits != sorted(set(waits)):
                raise PydanticCustomError("stages", "expected fast before revised before final")
        for stage in STAGES:
            if getattr(self, f"{stage}_s") is not None and getattr(self, f"{stage}_volumes") is not None:
                raise PydanticCustomError("stages", f"expected {stage}_s or {stage}_volumes, got both")
        return self


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
    tr_s: float = Field(ge=MIN_TR_S, lt=MAX_TR_S)
    n_volumes: int | None = Field(default=None, ge=1)
    motion: MotionOrder | None = Field(
        default=None,
        description="its volumes bring the six motion parameters that another program estimated, in this order, in mm"
        " and radians where it is known; they are confounds, and motion is not estimated",
    )

    @property
    def key(self) -> str:
        return run_key(self.run)


class AddEvent(_Base):
    """A stimulus. ``trial`` numbers what is to be decoded from 1 in its run; None for the rest.

    An event without a trial is named by all that it says, and by the how-many-th of its like it is: so any number may
    begin at one moment, and the same table once more adds none.
    """

    type: Literal["event.add"] = "event.add"
    run: int = Field(ge=1)
    trial: int | None = Field(default=None, ge=1)
    onset_s: float
    duration_s: float = Field(ge=0)
    stimulus: Digest | None = None
    candidate: str | None = None
    label: str | None = None
    stim_file: str | None = None
    occurrence: int = Field(default=1, ge=1)

    @property
    def key(self) -> str:
        if self.trial is not None:
            return f"event-{self.run}-{self.trial}"
        return f"event-{self.run}-at-{self.onset_s!r}-{self.identity[:16]}-{self.occurrence}"


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


class SetLimits(_Base):
    """From here on, other limits of quality; what is not named stays. ``change`` is an id, for safe repeats."""

    type: Literal["limits.set"] = "limits.set"
    change: str
    fd_mm: FdThreshold | None = None
    limits: Limits = Limits()

    @property
    def key(self) -> str:
        return limits_key(self.change)


class CloseSession(_Base):
    type: Literal["session.close"] = "session.close"

    @property
    def key(self) -> str:
        return CLOSED_KEY


Input = Annotated[
    OpenSession | StartRun | AddEvent | TakeVolume | SkipVolume | EndRun | SetLimits | CloseSession,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Input] = TypeAdapter(Input)


def parse_input(payload: bytes | str) -> Input:
    """One entry from its JSON."""
    return _ADAPTER.validate_json(payload)


def dump_input(entry: Input) -> bytes:
    """The entry as compact JSON."""
    return entry.model_dump_json(exclude_none=True).encode()
