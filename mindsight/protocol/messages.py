"""Everything that happens in a session, as a closed, versioned union of messages.

One session has one message log. Its messages are numbered 1, 2, 3, ... without a gap: ``id`` is that number, and it is
the cursor a client resumes from. Knows nothing of how messages travel.

What was shown (``stimulus``, ``candidate``, ``label`` and ``stim_file`` of ``EventAdded``, the ``label`` of a region's
baseline) is the truth of a trial. No other message contains it, so that a blinded view is the same log through
``without_truth``.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mindsight.protocol.feedback import FeedbackPlan
from mindsight.protocol.rois import RoiBaseline, RoiName, RoiValue
from mindsight.stages import Stage, Version

VERSION: Literal[1] = 1

MAX_MARK = 500
Instruction = Literal["mark", "pause", "resume", "blind", "unblind"]
MotionOrder = Literal["translations", "rotations", "unknown"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the content, hexadecimal")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Base(_Frozen):
    v: Literal[1] = VERSION
    id: int = Field(default=0, ge=0, description="number in the session's log, from 1; 0 before it is written")
    session: str
    t: float = Field(description="when it was written, seconds since the Unix epoch")


class StageLatency(_Frozen):
    """Milliseconds that each stage of a volume or a result took. Stages that did not happen are absent."""

    receive: float | None = Field(default=None, description="gateway: from the first byte until durable")
    queue: float | None = Field(default=None, description="from the acknowledgement until the ingest worker took it")
    motion: float | None = None
    glm: float | None = None
    estimate: float | None = Field(default=None, description="computing all betas that were due with the volume")
    beta: float | None = Field(default=None, description="from the volume's acknowledgement until the beta was logged")
    decode: float | None = Field(default=None, description="z-scoring and decoder")
    retrieve: float | None = None
    retrieval: float | None = Field(default=None, description="from logging the beta until logging the result")
    preview: float | None = Field(default=None, description="computing the preview of a reconstruction")
    generate: float | None = Field(default=None, description="computing a reconstruction, its preview included")
    refine: float | None = Field(default=None, description="refining a reconstruction")
    reconstruction: float | None = Field(
        default=None, description="from logging the beta until logging this version of its reconstruction"
    )
    embed: float | None = Field(default=None, description="the encoder, which measures a reconstruction's fit")


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
    motion: MotionOrder | None = Field(default=None, description="order of its volumes' motion parameters")


class RunEnded(_Base):
    type: Literal["run.ended"] = "run.ended"
    run: int
    n_volumes: int
    n_missing: int = 0


class RunPlaced(_Base):
    """The position of a run's head in the subject's space, and how it was found."""

    type: Literal["run.placed"] = "run.placed"
    run: int
    index: int = Field(description="the volume that was registered, usually the run's first")
    how: Literal["subject", "session", "realigned", "registered", "refused"] = Field(
        description="subject, session: it fits the subject's or this session's reference; realigned, registered: it"
        " becomes the session's reference, aligned to the subject's; refused: alignment failed, the position is a guess"
    )
    reference_to_run: tuple[float, ...] = Field(
        min_length=16,
        max_length=16,
        description="4 x 4, row by row: from mm of the subject's reference to mm of the run",
    )
    displacement_mm: float = Field(
        description="of the head from the subject's reference: translation of its centre plus the rotation's arc on a"
        " 50 mm sphere, as in limits"
    )
    coverage: float = Field(ge=0, le=1, description="share of the decoder's voxels inside the run's volumes")
    unexplained: float | None = Field(default=None, description="share of the volume's variance left by the reference")
    margin: float | None = Field(default=None, description="of a registration: its score above that of wrong positions")
    overlap: float | None = Field(default=None, description="of a registration: share of the smaller head in the other")
    text: str = Field(description="the same in words")
    image: Digest | None = Field(default=None, description="image of the run's volume on the subject's reference")
    reference: Literal["calibration", "first_volume"] = Field(
        default="calibration",
        description="what the subject's reference is: in a session without a bundle, its first volume",
    )


class EventAdded(_Base):
    type: Literal["event.added"] = "event.added"
    run: int
    trial: int | None = Field(default=None, description="number in its run, from 1; None: not decoded")
    onset_s: float
    duration_s: float
    stimulus: Digest | None = Field(default=None, description="TRUTH: the image shown")
    candidate: str | None = Field(default=None, description="TRUTH: its id in the candidate pool")
    label: str | None = Field(default=None, description="TRUTH: trial_type")
    stim_file: str | None = Field(default=None, description="TRUTH: its file, as in the events table")


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
        default=None, description="about the scanner's origin; None if motion is not estimated"
    )
    rotation_deg: tuple[float, float, float] | None = None
    fd_mm: float | None = Field(
        default=None, description="framewise displacement (Power et al. 2012, 50 mm sphere); None for the first volume"
    )
    dvars_percent: float | None = None
    tsnr: float | None = Field(
        default=None, description="temporal signal-to-noise ratio so far in this run, median over the mask"
    )
    residual: float | None = Field(default=None, description="share of the volume's variance left by the reference")
    outlier_slices: tuple[int, ...] = Field(default=(), description="slices whose signal differs from the other slices")
    censored: bool
    censored_by: Literal["motion", "spike", "pose"] | None = Field(
        default=None,
        description="why it was censored: framewise displacement over the limit, sudden signal change, or no head"
        " position that explains the volume; None: not censored, or by an earlier release",
    )
    latency_ms: StageLatency = StageLatency()


class RoiDeclared(_Base):
    """A region of interest is measured from the next volume on, in place of an earlier one of this name."""

    type: Literal["roi.declared"] = "roi.declared"
    name: RoiName
    mask: Digest = Field(description="its mask, as a volume")
    n_voxels: int
    baseline: RoiBaseline = RoiBaseline()


class RoiMeasured(_Base):
    """The regions of interest in one volume; comes before the volume's other figures and betas."""

    type: Literal["roi.measured"] = "roi.measured"
    run: int
    index: int
    at_s: float = Field(description="when the volume began, seconds of the run")
    censored: bool
    rois: tuple[RoiValue, ...]


class SpaceKnown(_Base):
    """The space in which the session's voxels are: of its bundle, or of its first volume."""

    type: Literal["space.known"] = "space.known"
    shape: tuple[int, int, int]
    n_voxels: int = Field(description="in the mask; betas have one value for each, in C order of the grid")
    reference: Digest = Field(description="the reference, as a volume")
    mask: Digest = Field(description="the mask, as a volume of 0 and 1")


class BetaReady(_Base):
    type: Literal["beta.ready"] = "beta.ready"
    run: int
    trial: int
    stage: Stage
    n_volumes: int = Field(description="volumes of the run that the estimate uses")
    n_voxels: int
    flagged: bool = Field(description="something of the trial's response is lacking, see flagged_by")
    flagged_by: tuple[Literal["motion", "spike", "pose", "missing", "early", "registration"], ...] = Field(
        default=(),
        description="why: motion, spike, pose: a volume of its response was censored; missing: a volume is; early: the"
        " run began or ended inside the response; registration: the run could not be registered",
    )
    beta: Digest
    standard_error: float | None = Field(
        default=None, description="of the beta, median over voxels, in the beta's units; None: unknown"
    )
    standard_errors: Digest | None = Field(default=None, description="(V,) float32 per voxel; only for final betas")
    statistics: Digest | None = Field(
        default=None, description="(2, V) float32, mean and standard deviation for z-scoring; None: those of the bundle"
    )
    n_run: int = Field(default=0, ge=0, description="betas of the run so far")
    latency_ms: StageLatency = StageLatency()


class LimitsChanged(_Base):
    """New limits of quality from here on."""

    type: Literal["limits.changed"] = "limits.changed"
    fd_mm: float | None = Field(
        default=None, description="framewise displacement above which a volume is censored, mm; None: unchanged"
    )
    limits: dict[str, float | Literal["off"]] = Field(default={}, description="the limits that change, by name")


class Instructed(_Base):
    """The worker that leads the session has taken an instruction, at this place among the volumes.

    Between ``pause`` and ``resume`` betas are estimated and not decoded. Between ``blind`` and ``unblind`` nobody is
    sent what was shown. A ``mark`` changes nothing: it is a remark with a time. ``start`` and ``end`` are those of a
    run, which has messages of its own; they tell that the worker has taken it.
    """

    type: Literal["instructed"] = "instructed"
    change: str = Field(description="id of the instruction, as it was sent; of a start or an end, run-N or run-N-ended")
    instruction: Instruction | Literal["start", "end"]
    text: str | None = Field(default=None, description="of a mark")
    run: int | None = Field(default=None, description="the run that was on; None: between runs")
    index: int | None = Field(default=None, description="of the volume that is next in this run")


class BundleChanged(_Base):
    """The runs that begin from here on are decoded with another version of the subject's bundle."""

    type: Literal["bundle.changed"] = "bundle.changed"
    bundle: str
    digest: Digest
    text: str = Field(description="what it was made of")


class Candidate(_Frozen):
    id: str
    label: str | None = None
    image: Digest | None = None
    score: float
    probability: float | None = None


class PairChoice(_Frozen):
    """The nearer of two look-alike candidates: a two-alternative forced choice."""

    first: str
    second: str
    chosen: str = Field(description="one of the two")
    margin: float = Field(ge=0, description="score of the chosen candidate minus that of the other")
    probability: float = Field(
        ge=0.5, le=1, description="calibrated, of the chosen candidate if one of the two was shown"
    )


class WarmingUp(_Frozen):
    """The z-scoring statistics rest on ``n`` betas of the ``of`` that their policy needs."""

    n: int = Field(ge=0)
    of: int = Field(ge=1)


class Result(_Base):
    """The candidates closest to one trial's beta, at one stage."""

    type: Literal["result"] = "result"
    run: int
    trial: int
    stage: Stage
    candidates: tuple[Candidate, ...] = Field(description="best first")
    confidence: float = Field(ge=0, le=1, description="calibrated probability that the first candidate is correct")
    null_confidence: float = Field(ge=0, le=1, description="the same for betas without a stimulus: the level of chance")
    margin: float | None = Field(default=None, description="score of the first candidate minus that of the second")
    null_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of shuffled betas that score at least as high: a rank under the null",
    )
    chance: float = Field(ge=0, le=1)
    pairs: tuple[PairChoice, ...] = Field(default=(), description="choices for the session's pairs, in their order")
    pool_size: int
    flagged: bool = False
    model: Digest
    pool: Digest
    normalised_by: str = Field(description="the z-scoring policy, e.g. 'running' or 'bundle'")
    n_statistics: int = Field(default=0, ge=0, description="number of betas behind the z-scoring statistics")
    n_run: int = Field(default=0, ge=0, description="betas of the run so far, which the confidence allows for")
    warming_up: WarmingUp | None = Field(default=None, description="until the z-scoring statistics are complete")
    n_repeats: int = Field(default=1, ge=1, description="number of trials of the same image that are averaged")
    to_be_drawn: bool | None = Field(
        default=None,
        description="whether its reconstruction follows, or the reason for none; None: an earlier release does not say",
    )
    latency_ms: StageLatency = StageLatency()


class Reconstruction(_Base):
    """One version of the image that is reconstructed from one trial's beta, at one stage.

    Of the versions of one stage the latest counts: refined, full, preview. They may come in any order.
    """

    type: Literal["reconstruction"] = "reconstruction"
    run: int
    trial: int
    stage: Stage
    version: Version = Field(
        default="full", description="preview: as after the sampler's first steps; refined: made of the full one later"
    )
    image: Digest
    seed: int
    evaluations: int = Field(description="number of network evaluations of the sampler")
    generator: Digest
    from_ranking: float | None = Field(
        default=None, ge=0, le=1, description="share of its tokens that are the candidates' own; null: none can be"
    )
    brain_map: Digest | None = Field(default=None, description="image of the beta on the reference")
    latency_ms: StageLatency = StageLatency()

    @model_validator(mode="before")
    @classmethod
    def _without_the_confidence_of_its_result(cls, given: Any) -> Any:
        """Sessions recorded before ``ReconstructionFit`` repeat here the confidence of the result."""
        return {name: of for name, of in given.items() if name != "confidence"} if isinstance(given, dict) else given


class ReconstructionFit(_Base):
    """How well a reconstruction fits the image tokens that it was made from. It is measured after the reconstruction
    is shown, which comes before it.
    """

    type: Literal["reconstruction.fit"] = "reconstruction.fit"
    run: int
    trial: int
    stage: Stage
    image: Digest = Field(description="of the reconstruction that was measured")
    token_cosine: float = Field(
        ge=-1,
        le=1,
        description="cosine between the tokens of the reconstruction, encoded again, and those that it was made from",
    )
    fit_percentile: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="percentile rank of the cosine among those that other trials' reconstructions have with the same"
        " tokens, at this stage in the calibration; None: not calibrated",
    )
    encoder: Digest = Field(description="sha256 of the encoder's weights")
    latency_ms: StageLatency = StageLatency()


NO_FITS = "fit.encoder"
"""Code of the warning in a session whose reconstructions have no fit."""


class ReconstructionSkipped(_Base):
    """A stage of a trial has no reconstruction and will have none; its result is there."""

    type: Literal["reconstruction.skipped"] = "reconstruction.skipped"
    run: int
    trial: int
    stage: Stage
    text: str = Field(description="the reason")


class Captioned(_Base):
    """A sentence made from the same image tokens as the reconstruction, which comes before it."""

    type: Literal["caption"] = "caption"
    run: int
    trial: int
    stage: Stage
    text: str = Field(max_length=1000)
    model: Digest = Field(description="digest of the captioner's files")


class Warned(_Base):
    type: Literal["warning"] = "warning"
    code: str
    text: str
    level: Literal["info", "warning", "error"] = "warning"
    run: int | None = None
    index: int | None = None
    trial: int | None = None
    stage: Stage | None = None


class FeedbackChosen(_Base):
    """What the participant is shown of each trial from here on."""

    type: Literal["feedback.chosen"] = "feedback.chosen"
    plan: FeedbackPlan = Field(description="what, by when, and what instead")


class FeedbackDrawn(_Base):
    """Something that a participant's screen has drawn. Times by the service's clock, seconds since the Unix epoch."""

    type: Literal["feedback.drawn"] = "feedback.drawn"
    screen: str = Field(description="the screen's connection")
    number: int = Field(ge=1, description="counts up on one connection")
    run: int
    trial: int
    what: Literal["nothing", "text", "bar", "picture", "hold"] = Field(description="what it was")
    fallback: bool = Field(description="whether the result had not come in time")
    sent_t: float = Field(description="when the service sent it")
    requested_t: float = Field(description="when the screen asked for it to be drawn")
    drawn_t: float = Field(description="when the frame with it was presented, as the browser tells")
    patch: Literal["black", "white"] = Field(description="the photodiode's patch in that frame")
    clock_ms: float = Field(ge=0, description="how far the screen's clock and the service's may differ")


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
    | RoiDeclared
    | RoiMeasured
    | SpaceKnown
    | BetaReady
    | LimitsChanged
    | BundleChanged
    | Instructed
    | Result
    | Reconstruction
    | ReconstructionSkipped
    | ReconstructionFit
    | Captioned
    | FeedbackChosen
    | FeedbackDrawn
    | Warned,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)


def parse_message(payload: bytes | str, id: int | None = None) -> Message:
    """Read a message from its JSON; ``id`` replaces the one inside: only the log knows the message's number."""
    message = _ADAPTER.validate_json(payload)
    return message if id is None else message.model_copy(update={"id": id})


def read_message(payload: bytes | str, id: int, session: str) -> Message:
    """A message of a session's log. In place of one that this version cannot read comes a warning with its number.

    So one message never keeps a reader from those after it.
    """
    try:
        return parse_message(payload, id)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].lower()
        text = f"message {id} cannot be read by this version ({reason}); update Mindsight to see it"
        return Warned(id=id, session=session, t=_time_of(payload), code="message.unreadable", text=text)


def dump_message(message: Message) -> bytes:
    """Write a message as compact JSON."""
    return message.model_dump_json(exclude_none=True).encode()


def without_truth(message: Message) -> Message:
    """The message for a blinded view: without what was shown, and without which trials showed the same."""
    if isinstance(message, Result) and message.n_repeats > 1:
        return message.model_copy(update={"n_repeats": 1})
    if isinstance(message, RoiDeclared) and message.baseline.label is not None:
        return message.model_copy(update={"baseline": message.baseline.without_truth()})
    if isinstance(message, EventAdded):
        return message.model_copy(update={"stimulus": None, "candidate": None, "label": None, "stim_file": None})
    return message


def _time_of(payload: bytes | str) -> float:
    """When an unreadable message was written; 0 if not even that can be read."""
    try:
        t = json.loads(payload)["t"]
        return float(t) if math.isfinite(t) else 0.0
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return 0.0
