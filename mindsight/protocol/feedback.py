"""What a participant is shown: what the experimenter chose, and what passes between the service and the participant's
screen. Knows nothing of how a result is awaited.

Nothing else reaches that screen: no stimulus, no other result, no name, no id of a session's message.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mindsight.stages import Stage

FeedbackKind = Literal["nothing", "reconstruction", "candidate", "confidence"]
Corner = Literal["none", "top-left", "top-right", "bottom-left", "bottom-right"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Fallback(_Frozen):
    """What is shown where no result came in time."""

    show: Literal["nothing", "text", "hold"] = Field(
        default="nothing", description="nothing: the fixation cross; text: a text; hold: what was shown before stays"
    )
    text: str | None = Field(default=None, min_length=1, max_length=200, description="with show=text: the text")

    @model_validator(mode="after")
    def _check_text(self) -> Fallback:
        if (self.show == "text") != (self.text is not None):
            raise PydanticCustomError("fallback", "expected a text with show=text, and only then")
        return self


class FeedbackPlan(_Frozen):
    """What the participant sees of each trial, and by when."""

    show: FeedbackKind = Field(
        default="nothing",
        description="reconstruction: the image; candidate: name of the first candidate; confidence: a bar of its"
        " calibrated probability; nothing: the fixation cross throughout",
    )
    stage: Stage = Field(default="fast", description="the stage whose result is awaited")
    deadline_s: float = Field(
        default=12.0,
        gt=0,
        le=120,
        description="seconds after the trial's onset; a result that comes later is not shown",
    )
    hold_s: float = Field(default=2.0, gt=0, le=60, description="seconds that it stays, before the fixation cross")
    fallback: Fallback = Field(default=Fallback(), description="what is shown where no result came in time")
    patch: Corner = Field(
        default="bottom-right",
        description="corner of the patch for a photodiode, which turns from black to white or back with each change",
    )


class ShowPlan(_Frozen):
    """Comes first, and again when the experimenter changes it: how the screen is laid out."""

    type: Literal["plan"] = Field(default="plan", description="always plan")
    patch: Corner = Field(description="corner of the photodiode's patch")
    hold_s: float = Field(description="seconds that feedback stays, before the fixation cross")


class Show(_Frozen):
    """Something to draw at once. A picture's bytes follow in the same frame, which is binary then."""

    type: Literal["show"] = Field(default="show", description="always show")
    number: int = Field(ge=1, description="counts up on one connection; the screen reports it when it is drawn")
    what: Literal["nothing", "text", "bar", "picture", "hold"] = Field(
        description="nothing: the fixation cross; hold: what was shown before stays"
    )
    text: str | None = Field(default=None, description="with what=text: the text")
    value: float | None = Field(default=None, ge=0, le=1, description="with what=bar: the length of the bar")
    media_type: str | None = Field(default=None, description="with what=picture: of the bytes that follow")
    t: float = Field(description="when the service sent it, seconds since the Unix epoch")


class Pong(_Frozen):
    """Answers a ping, so that the screen knows the service's clock."""

    type: Literal["pong"] = Field(default="pong", description="always pong")
    sent: float = Field(description="what the ping held")
    t: float = Field(description="the service's clock, seconds since the Unix epoch")


class Ping(_Frozen):
    """From the screen: what time is it?"""

    type: Literal["ping"] = Field(default="ping", description="always ping")
    sent: float = Field(description="the screen's own clock, which comes back with the pong")


class Drawn(_Frozen):
    """From the screen: this was drawn. Times by the service's clock, seconds since the Unix epoch."""

    type: Literal["drawn"] = Field(default="drawn", description="always drawn")
    number: int = Field(ge=1, description="of what was to be shown")
    requested_t: float = Field(description="when the screen asked for it to be drawn")
    drawn_t: float = Field(description="when the frame with it was presented, as the browser tells")
    patch: Literal["black", "white"] = Field(description="the photodiode's patch in that frame")
    clock_ms: float = Field(ge=0, description="half the shortest way of a ping: how far the clocks may differ")
