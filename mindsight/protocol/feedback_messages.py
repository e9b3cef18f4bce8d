"""Messages of the participant's feedback: what was chosen, and what a screen has drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindsight.protocol.base import SessionMessage
from mindsight.protocol.feedback import FeedbackPlan


class FeedbackChosen(SessionMessage):
    """What the participant is shown of each trial from here on."""

    type: Literal["feedback.chosen"] = "feedback.chosen"
    plan: FeedbackPlan = Field(description="what, by when, and what instead")


class FeedbackDrawn(SessionMessage):
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
