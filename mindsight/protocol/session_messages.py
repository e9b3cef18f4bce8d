"""Messages of what was declared in a session: its beginning and end, runs, events, limits, instructions, warnings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindsight.protocol.base import Digest, SessionMessage
from mindsight.stages import Stage

MAX_MARK = 500
Instruction = Literal["mark", "pause", "resume", "blind", "unblind"]
MotionOrder = Literal["translations", "rotations", "unknown"]


class SessionOpened(SessionMessage):
    type: Literal["session.opened"] = "session.opened"
    subject: str
    bundle: str | None = None
    pool_size: int | None = None
    blinded: bool = False


class SessionClosed(SessionMessage):
    type: Literal["session.closed"] = "session.closed"


class SessionArchived(SessionMessage):
    type: Literal["session.archived"] = "session.archived"
    archive: str = Field(description="folder of the archive, relative to the service's data folder")
    n_files: int


class RunStarted(SessionMessage):
    type: Literal["run.started"] = "run.started"
    run: int = Field(ge=1)
    task: str
    tr_s: float
    n_volumes: int | None = None
    motion: MotionOrder | None = Field(default=None, description="order of its volumes' motion parameters")


class RunEnded(SessionMessage):
    type: Literal["run.ended"] = "run.ended"
    run: int
    n_volumes: int
    n_missing: int = 0


class RunPlaced(SessionMessage):
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


class EventAdded(SessionMessage):
    type: Literal["event.added"] = "event.added"
    run: int
    trial: int | None = Field(default=None, description="number in its run, from 1; None: not decoded")
    onset_s: float
    duration_s: float
    stimulus: Digest | None = Field(default=None, description="TRUTH: the image shown")
    candidate: str | None = Field(default=None, description="TRUTH: its id in the candidate pool")
    label: str | None = Field(default=None, description="TRUTH: trial_type")
    stim_file: str | None = Field(default=None, description="TRUTH: its file, as in the events table")


class LimitsChanged(SessionMessage):
    """New limits of quality from here on, or another target of usable data."""

    type: Literal["limits.changed"] = "limits.changed"
    fd_mm: float | None = Field(
        default=None, description="framewise displacement above which a volume is censored, mm; None: unchanged"
    )
    limits: dict[str, float | Literal["off"]] = Field(default={}, description="the limits that change, by name")
    usable_min: float | None = Field(
        default=None, description="minutes of usable data that the session shall give; None: unchanged"
    )


class Instructed(SessionMessage):
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


class BundleChanged(SessionMessage):
    """The runs that begin from here on are decoded with another version of the subject's bundle."""

    type: Literal["bundle.changed"] = "bundle.changed"
    bundle: str
    digest: Digest
    text: str = Field(description="what it was made of")


class Warned(SessionMessage):
    type: Literal["warning"] = "warning"
    code: str
    text: str
    level: Literal["info", "warning", "error"] = "warning"
    run: int | None = None
    index: int | None = None
    trial: int | None = None
    stage: Stage | None = None
