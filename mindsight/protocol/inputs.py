"""The inputs of a session, as a closed, versioned union: one log per session, in one total order.

The position of an event among the volumes is part of the record, so that a replay of the log gives the same bits.
Knows nothing of how entries travel. An entry's ``key`` names it in the log; its ``identity`` is the same for a retry:
it covers everything declared except the times of declaration.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mindsight.protocol.base import Digest
from mindsight.protocol.rois import RoiBaseline, RoiName
from mindsight.protocol.session_messages import MAX_MARK, Instruction, MotionOrder
from mindsight.stages import STAGES
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S

_TIMES = {"t", "acked_t", "acquired_s"}
_IN_KEY = {"occurrence"}
_LATER = {"stim_file", "motion", "usable_min"}  # fields added after the first release: absent means None

SESSION_KEY = "session"
CLOSED_KEY = "session-closed"


def run_key(run: int) -> str:
    return f"run-{run}"


def run_ended_key(run: int) -> str:
    return f"run-{run}-ended"


def limits_key(change: str) -> str:
    return f"limits-{change}"


def instruction_key(change: str) -> str:
    return f"instruction-{change}"


def volume_key(run: int, index: int) -> str:
    """The key of a received or missing volume: an index is one or the other."""
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
        """sha256 of what was declared; the same for a retry, also for one written before the later fields existed."""
        later = {name for name in _LATER & type(self).model_fields.keys() if getattr(self, name) is None}
        return hashlib.sha256(self.model_dump_json(exclude=_TIMES | _IN_KEY | later).encode()).hexdigest()


def _number_or_off(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validate with one error message, where a union would give two."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("limit", "expected a number from 0 on, or 'off'") from None


Limit = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["off"] | None, WrapValidator(_number_or_off)
]
Window = Annotated[int, Field(ge=1, le=1000)]


class Limits(BaseModel):
    """The limit of each figure of quality beyond which an alert is raised: a number, or "off" for never.

    A limit that is not named stays as it is. The fields are those of ``preprocessing.quality.limits.QualityLimits``,
    which gives the sources of the defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fd_mm: Limit = Field(default=None, description="framewise displacement of one volume, mm (default 0.5)")
    displacement_mm: Limit = Field(
        default=None,
        description="displacement of the head from the reference, mm (3): translation of its centre plus the rotation's"
        " arc on a 50 mm sphere, as in run.placed",
    )
    censored_share: Limit = Field(default=None, description="share of excluded volumes in the window, 0 to 1 (0.2)")
    dvars_ratio: Limit = Field(default=None, description="DVARS of one volume divided by the run's median (1.5)")
    tsnr_ratio: Limit = Field(default=None, description="tSNR divided by the calibration's; alerts below (0.7)")
    tsnr_start_ratio: Limit = Field(default=None, description="tSNR divided by the run's first; alerts below (0.7)")
    drift_percent: Limit = Field(default=None, description="change of the mean signal since the run's start, % (3)")
    signal_percent: Limit = Field(default=None, description="change of the mean signal since the calibration, % (20)")
    residual: Limit = Field(
        default=None, description="share of a volume's variance left by the reference, 0 to 1 (0.2)"
    )
    outlier_share: Limit = Field(default=None, description="share of outlier slices in the window, 0 to 1 (0.01)")
    spikes: Limit = Field(default=None, description="spikes tolerated in the window (0)")
    unplaced: Limit = Field(default=None, description="volumes without a pose tolerated in the window (0)")
    window_volumes: Window | None = Field(default=None, description="volumes in the window of shares and counts (30)")
    settle_volumes: Window | None = Field(default=None, description="volumes until a run's own level is known (10)")
    quiet_volumes: Window | None = Field(default=None, description="volumes within the limit until an alert ends (10)")

    def on(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """``earlier`` with the limits named here in place of its own; None is off."""
        named = self.model_dump(exclude_none=True)
        return earlier | {name: None if value == "off" else value for name, value in named.items()}


FdThreshold = Annotated[float, Field(gt=0, lt=50)]
UsableMinutes = Annotated[float, Field(gt=0, le=600)]
Seconds = Annotated[float, Field(gt=0, lt=600)]
Volumes = Annotated[int, Field(ge=1, le=1000)]
CandidateId = Annotated[str, Field(min_length=1, max_length=200)]
Normalise = Literal["bundle", "running", "running_including", "run"]


class SessionOptions(BaseModel):
    """How a session is decoded. None: as the subject bundle has it, otherwise the default in brackets."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    blinded: bool = Field(default=False, description="what was shown is hidden from the people who watch")
    fast_s: Seconds | None = Field(default=None, description="seconds after onset until the fast result (7.5)")
    fast_volumes: Volumes | None = Field(default=None, description="the same in volumes, instead of fast_s")
    revised_s: Seconds | None = Field(default=None, description="seconds after onset until the revised result (27.5)")
    revised_volumes: Volumes | None = Field(default=None, description="the same in volumes, instead of revised_s")
    final_s: Seconds | None = Field(
        default=None,
        description="seconds after onset until the final result (by default at the run's end, as for late trials)",
    )
    final_volumes: Volumes | None = Field(default=None, description="the same in volumes, instead of final_s")
    fd_mm: FdThreshold | None = Field(
        default=None,
        description="framewise displacement above which a volume is censored, mm (0.5); also raises an alert, see"
        " limits",
    )
    limits: Limits = Field(default=Limits(), description="when poor quality raises an alert")
    normalise: Normalise | None = Field(
        default=None,
        description="statistics that z-score betas: of the bundle; of all earlier trials of the session (running), or"
        " of those and the present one (running_including); of all trials of the run so far (run)",
    )
    min_betas: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None, description="number of betas from which running statistics are used (6)"
    )
    prior_betas: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="weight of the bundle's statistics in running ones, in betas (16)"
    )
    std_floor: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="floor of a voxel's standard deviation, as a share of the median over voxels (0.1)"
    )
    high_pass_hz: Annotated[float, Field(gt=0, lt=0.1)] | None = Field(
        default=None,
        description="cut-off of the drift model, Hz (0.01); lower for a block design that repeats once in a run",
    )
    event_lag_s: Annotated[float, Field(ge=-10, le=10)] | None = Field(
        default=None, description="added to every onset in the model, s (0)"
    )
    usable_min: UsableMinutes | None = Field(
        default=None, description="minutes of usable data that the session shall give; what is still needed is shown"
    )
    average_repeats: bool = Field(
        default=False,
        description="average the betas of all trials so far that showed the same image (by digest, candidate or file)",
    )

    pairs: tuple[Annotated[tuple[CandidateId, CandidateId], Strict(False)], ...] = Field(
        default=(),
        strict=False,  # lists, as JSON has them
        max_length=100,
        description="pairs of look-alike candidates; every result also names the nearer one of each pair",
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> SessionOptions:
        if len({frozenset(pair) for pair in self.pairs if pair[0] != pair[1]}) != len(self.pairs):
            raise PydanticCustomError("pairs", "expected pairs of two different candidates, each pair once")
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> SessionOptions:
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

    @property
    def identity(self) -> str:
        """Without options that were added after the first release and are not given."""
        later = {name for name in ("high_pass_hz", "event_lag_s", "usable_min") if getattr(self.options, name) is None}
        told = self.model_dump_json(exclude={"t": True, "options": later})
        return hashlib.sha256(told.encode()).hexdigest()


class StartRun(_Base):
    type: Literal["run.start"] = "run.start"
    run: int = Field(ge=1)
    task: str
    tr_s: float = Field(ge=MIN_TR_S, lt=MAX_TR_S)
    n_volumes: int | None = Field(default=None, ge=1)
    motion: MotionOrder | None = Field(
        default=None,
        description="order of the six motion parameters that come with each volume, estimated by another program, in"
        " mm and radians; they are used as confounds, and motion is not estimated",
    )

    @property
    def key(self) -> str:
        return run_key(self.run)


class AddEvent(_Base):
    """A stimulus. ``trial``: number of the trial in its run, from 1; None for an event that is not decoded.

    The key of an event without a trial consists of all its fields and of its ``occurrence`` among identical events: any
    number of events may begin at one moment, and sending a table again adds none.
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
    acquired_s: float | None = Field(default=None, description="when it was acquired, seconds since the Unix epoch")
    acked_t: float = Field(description="when the gateway logged it, just before its acknowledgement")

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
    """New limits of quality from here on; limits that are not named stay. ``change``: an id that makes a retry safe."""

    type: Literal["limits.set"] = "limits.set"
    change: str
    fd_mm: FdThreshold | None = None
    limits: Limits = Limits()
    usable_min: UsableMinutes | None = None

    @property
    def key(self) -> str:
        return limits_key(self.change)


class SetBundle(_Base):
    """Runs that begin from here on are decoded with this bundle, whose voxels are the session's."""

    type: Literal["bundle.set"] = "bundle.set"
    bundle: str

    @property
    def key(self) -> str:
        return f"bundle-{self.bundle}"


class SetRoi(_Base):
    """A region of interest is measured from the next volume on, in place of an earlier one of this name.

    ``occurrence`` : n for the n-th time, from 2, that the same is declared after something else of this name was.
    """

    type: Literal["roi.set"] = "roi.set"
    name: RoiName
    mask: Digest
    baseline: RoiBaseline = RoiBaseline()
    occurrence: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _check_label(self) -> SetRoi:
        if self.baseline.kind == "label" and self.baseline.label is None:
            raise PydanticCustomError("baseline", "expected a label with the kind 'label'")
        return self

    @property
    def key(self) -> str:
        again = "" if self.occurrence is None else f"-{self.occurrence}"
        return f"roi-{self.name}-{self.identity[:16]}{again}"


class Instruct(_Base):
    """What an experimenter asks of a session while it runs, in its place among the volumes. ``change``: an id that
    makes a retry safe. See ``messages.Instructed`` for what each does.
    """

    type: Literal["instruct"] = "instruct"
    change: str
    instruction: Instruction
    text: str | None = Field(default=None, max_length=MAX_MARK, description="of a mark")

    @property
    def key(self) -> str:
        return instruction_key(self.change)


class CloseSession(_Base):
    type: Literal["session.close"] = "session.close"

    @property
    def key(self) -> str:
        return CLOSED_KEY


Input = Annotated[
    OpenSession
    | StartRun
    | AddEvent
    | TakeVolume
    | SkipVolume
    | EndRun
    | SetLimits
    | SetBundle
    | SetRoi
    | Instruct
    | CloseSession,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Input] = TypeAdapter(Input)


def parse_input(payload: bytes | str) -> Input:
    """Read an entry from its JSON."""
    return _ADAPTER.validate_json(payload)


def dump_input(entry: Input) -> bytes:
    """Write an entry as compact JSON."""
    return entry.model_dump_json(exclude_none=True).encode()
