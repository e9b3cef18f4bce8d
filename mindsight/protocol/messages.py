"""Everything that happens in a session, as a closed, versioned union of messages.

One session has one message log. Its messages are numbered 1, 2, 3, ... without a gap: ``id`` is that number, and it is
the cursor a client resumes from. Knows nothing of how messages travel.

What was shown (``stimulus``, ``candidate``, ``label`` and ``stim_file`` of ``EventAdded``) is the truth of a trial and
is in no other message, so that a blinded view is the same log through ``without_truth``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mindsight.stages import Stage

VERSION: Literal[1] = 1

MotionOrder = Literal["translations", "rotations", "unknown"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the content, hexadecimal")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Base(_Frozen):
    v: Literal[1] = VERSION
    id: int = Field(default=0, ge=0, description="place in the session's log, from 1; 0 before it is written")
    session: str
    t: float = Field(description="when it was written, seconds since the Unix epoch")


class StageLatency(_Frozen):
    """Milliseconds per stage of one volume's or one answer's way. Absent stages did not happen."""

    receive: float | None = Field(default=None, description="gateway: first byte to durable and logged")
    queue: float | None = Field(default=None, description="acknowledged until the ingest worker took it")
    motion: float | None = None
    glm: float | None = None
    estimate: float | None = Field(default=None, description="computing all betas that the volume brought")
    beta: float | None = Field(default=None, description="volume acknowledged until the beta was in the log")
    decode: float | None = Field(default=None, description="z-score, decoder")
    retrieve: float | None = None
    retrieval: float | None = Field(default=None, description="beta in the log until the retrieval was in the log")
    generate: float | None = None


class SessionOpened(_Base):
    type: Literal["session.opened"] = "session.opened"
    subject: str
    bundle: str | None = None
    pool_size: int | None = None
    blinded: bool = False


class SessionClosed(_Base):
    type: Literal["session.closed"] = "session.closed"


class SessionArchived(_Base):
    type: Literal["session.archived"] = "session.archived"
    archive: str = Field(description="folder of the archive, relative to the service's data folder")
    n_files: int


class RunStarted(_Base):
    type: Literal["run.started"] = "run.started"
    run: int = Field(ge=1)
    task: str
    tr_s: float
    n_volumes: int | None = None
    motion: MotionOrder | None = Field(default=None, description="of the parameters that its volumes bring")


class RunEnded(_Base):
    type: Literal["run.ended"] = "run.ended"
    run: int
    n_volumes: int
    n_missing: int = 0


class RunPlaced(_Base):
    """Where a run's head is in the subject's space, and whether to believe it."""

    type: Literal["run.placed"] = "run.placed"
    run: int
    index: int = Field(description="the volume that says so, usually the run's first")
    how: Literal["subject", "session", "realigned", "registered", "refused"] = Field(
        description="it fits the subject's reference, or this session's; it is the session's reference from here on,"
        " realigned or registered to the subject's; or that was refused, and its place is a guess"
    )
    reference_to_run: tuple[float, ...] = Field(
        min_length=16, max_length=16, description="4 x 4, row by row: mm of the subject's reference to mm of the run"
    )
    displacement_mm: float = Field(
        description="of the head, from where the subject's reference has it: of its centre, and the rotation's arc on "
        "a 50 mm sphere, as limits have it"
    )
    coverage: float = Field(ge=0, le=1, description="share of the decoder's voxels that the run's volumes show")
    unexplained: float | None = Field(default=None, description="share of the volume that the reference leaves so")
    margin: float | None = Field(default=None, description="of a registration over what is certainly wrong")
    overlap: float | None = Field(default=None, description="of a registration: share of the smaller head in the other")
    text: str = Field(description="the same for a person")
    image: Digest | None = Field(default=None, description="picture of the run's volume on the subject's reference")


class EventAdded(_Base):
    type: Literal["event.added"] = "event.added"
    run: int
    trial: int | None = Field(default=None, description="number in its run, from 1; None: not to be decoded")
    onset_s: float
    duration_s: float
    stimulus: Digest | None = Field(default=None, description="TRUTH: the picture shown")
    candidate: str | None = Field(default=None, description="TRUTH: id of the picture in the candidate pool")
    label: str | None = Field(default=None, description="TRUTH: trial_type")
    stim_file: str | None = Field(default=None, description="TRUTH: the picture's file, as the events table has it")


class VolumeReceived(_Base):
    type: Literal["volume.received"] = "volume.received"
    run: int
    index: int
    latency_ms: StageLatency = StageLatency()


class VolumeMissing(_Base):
    type: Literal["volume.missing"] = "volume.missing"
    run: int
    index: int
    reason: str


class VolumeProcessed(_Base):
    type: Literal["volume.processed"] = "volume.processed"
    run: int
    index: int
    translation_mm: tuple[float, float, float] | None = Field(
        default=None, description="about the scanner's origin; None where motion is not estimated"
    )
    rotation_deg: tuple[float, float, float] | None = None
    fd_mm: float | None = Field(
        default=None, description="framewise displacement, Power et al. 2012, 50 mm sphere; None for the first"
    )
    dvars_percent: float | None = None
    tsnr: float | None = Field(
        default=None, description="median temporal signal-to-noise over the mask, so far in this run"
    )
    residual: float | None = Field(default=None, description="share of the volume the reference does not explain")
    outlier_slices: tuple[int, ...] = Field(default=(), description="slices that do not fit the others")
    censored: bool
    latency_ms: StageLatency = StageLatency()


class BetaReady(_Base):
    type: Literal["beta.ready"] = "beta.ready"
    run: int
    trial: int
    stage: Stage
    n_volumes: int = Field(description="volumes of the run that went into it")
    n_voxels: int
    flagged: bool = Field(description="a censored volume fell into the trial's response")
    beta: Digest
    standard_error: float | None = Field(
        default=None, description="median over voxels of the beta's standard error, in its units; None: not known"
    )
    standard_errors: Digest | None = Field(default=None, description="(V,) float32, of each voxel; of final betas")
    latency_ms: StageLatency = StageLatency()


class LimitsChanged(_Base):
    """Other limits of quality from here on."""

    type: Literal["limits.changed"] = "limits.changed"
    fd_mm: float | None = Field(
        default=None, description="framewise displacement that censors a volume; None: as it was"
    )
    limits: dict[str, float | Literal["off"]] = Field(default={}, description="the limits that were named, by name")


class Candidate(_Frozen):
    id: str
    label: str | None = None
    image: Digest | None = None
    score: float
    probability: float | None = None


class PairChoice(_Frozen):
    """Of two candidates that look alike, the nearer one: a two-alternative forced choice."""

    first: str
    second: str
    chosen: str = Field(description="one of the two")
    margin: float = Field(ge=0, description="score of the chosen minus that of the other")
    probability: float = Field(ge=0.5, le=1, description="calibrated, that it is the chosen if it is one of the two")


class Result(_Base):
    """What the brain said: the closest candidates to one trial's beta, at one stage."""

    type: Literal["result"] = "result"
    run: int
    trial: int
    stage: Stage
    candidates: tuple[Candidate, ...] = Field(description="best first")
    confidence: float = Field(ge=0, le=1, description="calibrated probability that the first candidate is right")
    null_confidence: float = Field(ge=0, le=1, description="the same for betas of no picture: what chance looks like")
    margin: float | None = Field(default=None, description="score of the first candidate minus that of the second")
    null_share: float | None = Field(
        default=None, ge=0, le=1, description="share of shuffled betas that score as high: a rank under the null"
    )
    chance: float = Field(ge=0, le=1)
    pairs: tuple[PairChoice, ...] = Field(default=(), description="the session's pairs, in their order")
    pool_size: int
    flagged: bool = False
    model: Digest
    pool: Digest
    normalised_by: str = Field(description="the z-scoring policy, e.g. 'running' or 'bundle'")
    n_statistics: int = Field(default=0, ge=0, description="betas that the z-scoring rests on")
    n_repeats: int = Field(default=1, ge=1, description="trials of the same picture that the answer averages")
    latency_ms: StageLatency = StageLatency()


class Reconstruction(_Base):
    type: Literal["reconstruction"] = "reconstruction"
    run: int
    trial: int
    stage: Stage
    image: Digest
    confidence: float = Field(ge=0, le=1)
    seed: int
    evaluations: int = Field(description="network evaluations that made it")
    generator: Digest
    brain_map: Digest | None = Field(default=None, description="picture of the beta on the reference")
    latency_ms: StageLatency = StageLatency()


class Captioned(_Base):
    """A sentence for what was decoded, of the same image tokens as the picture; it comes after the picture."""

    type: Literal["caption"] = "caption"
    run: int
    trial: int
    stage: Stage
    text: str = Field(max_length=1000)
    model: Digest = Field(description="the captioner's files")


class Warned(_Base):
    type: Literal["warning"] = "warning"
    code: str
    text: str
    level: Literal["info", "warning", "error"] = "warning"
    run: int | None = None
    index: int | None = None
    trial: int | None = None


Message = Annotated[
    SessionOpened
    | SessionClosed
    | SessionArchived
    | RunStarted
    | RunPlaced
    | RunEnded
    | EventAdded
    | VolumeReceived
    | VolumeMissing
    | VolumeProcessed
    | BetaReady
    | LimitsChanged
    | Result
    | Reconstruction
    | Captioned
    | Warned,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)


def parse_message(payload: bytes | str, id: int | None = None) -> Message:
    """One message from its JSON; ``id`` overrides the one inside (the log knows the place, the writer did not)."""
    message = _ADAPTER.validate_json(payload)
    return message if id is None else message.model_copy(update={"id": id})


def dump_message(message: Message) -> bytes:
    """The message as compact JSON."""
    return message.model_dump_json(exclude_none=True).encode()


def without_truth(message: Message) -> Message:
    """The same message for a blinded view: what was shown is removed, nothing else changes."""
    if isinstance(message, EventAdded):
        return message.model_copy(update={"stimulus": None, "candidate": None, "label": None, "stim_file": None})
    return message
