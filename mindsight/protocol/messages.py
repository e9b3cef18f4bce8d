"""Everything that happens in a session, as a closed, versioned union of messages.

One session has one message log. Its messages are numbered 1, 2, 3, ... without a gap: ``id`` is that number, and it is
the cursor a client resumes from. Knows nothing of how messages travel. What each tells is in ``*_messages``.

What was shown (``stimulus``, ``candidate``, ``label`` and ``stim_file`` of ``EventAdded``, the ``label`` of a region's
baseline) is the truth of a trial. No other message contains it, so that a blinded view is the same log through
``without_truth``.
"""

from __future__ import annotations

import json
import math
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from mindsight.protocol.base import VERSION, Digest, StageLatency
from mindsight.protocol.feedback_messages import FeedbackChosen, FeedbackDrawn
from mindsight.protocol.result_messages import (
    NO_FITS,
    Candidate,
    Captioned,
    PairChoice,
    Reconstruction,
    ReconstructionFit,
    ReconstructionSkipped,
    Result,
    WarmingUp,
)
from mindsight.protocol.session_messages import (
    MAX_MARK,
    BundleChanged,
    EventAdded,
    Instructed,
    Instruction,
    LimitsChanged,
    MotionOrder,
    RunEnded,
    RunPlaced,
    RunStarted,
    SessionArchived,
    SessionClosed,
    SessionOpened,
    Warned,
)
from mindsight.protocol.volume_messages import (
    BetaReady,
    RoiDeclared,
    RoiMeasured,
    SpaceKnown,
    VolumeMissing,
    VolumeProcessed,
    VolumeReceived,
)

__all__ = [
    "MAX_MARK", "NO_FITS", "VERSION", "BetaReady", "BundleChanged", "Candidate", "Captioned", "Digest", "EventAdded",
    "FeedbackChosen", "FeedbackDrawn", "Instructed", "Instruction", "LimitsChanged", "Message", "MotionOrder",
    "PairChoice", "Reconstruction", "ReconstructionFit", "ReconstructionSkipped", "Result", "RoiDeclared",
    "RoiMeasured", "RunEnded", "RunPlaced", "RunStarted", "SessionArchived", "SessionClosed", "SessionOpened",
    "SpaceKnown", "StageLatency", "VolumeMissing", "VolumeProcessed", "VolumeReceived", "WarmingUp", "Warned",
    "dump_message", "parse_message", "read_message", "without_truth",
]  # fmt: skip

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
