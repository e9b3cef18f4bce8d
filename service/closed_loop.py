"""The closed loop of a session: of each trial a result is awaited until a deadline, and a fallback is declared.

A pure state machine: messages and times in, what is to be shown out. Knows nothing of connections, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mindsight.protocol import (
    EventAdded,
    FeedbackChosen,
    Message,
    Reconstruction,
    Result,
    RunStarted,
    VolumeReceived,
)
from mindsight.protocol.feedback import FeedbackPlan

Trial = tuple[int, int]  # run, number in its run


@dataclass(frozen=True)
class Feedback:
    """What is to be shown of a trial; nothing for the fallback. ``image`` : digest of a picture."""

    trial: Trial
    fallback: bool = False
    text: str | None = None
    value: float | None = None
    image: str | None = None


@dataclass
class ClosedLoop:
    """One session's trials that are awaited."""

    plan: FeedbackPlan = field(default_factory=FeedbackPlan)
    _tr_s: dict[int, float] = field(default_factory=dict)
    _zero_t: dict[int, float] = field(default_factory=dict)  # when a run began, by the service's clock
    _onsets_s: dict[Trial, float] = field(default_factory=dict)  # of trials that are awaited

    def prime(self, messages: Iterable[Message], now: float) -> None:
        """Take in what happened before; of trials that are over nothing is shown."""
        for message in messages:
            self.see(message)
        self.due(now)

    def see(self, message: Message) -> Feedback | None:
        """What the message lets be shown."""
        if isinstance(message, FeedbackChosen):
            self.plan = message.plan
        elif isinstance(message, RunStarted):
            self._tr_s[message.run] = message.tr_s
        elif isinstance(message, VolumeReceived) and message.run in self._tr_s:
            # a volume comes when it is complete, at the earliest: the one with the least delay says when the run began
            began_t = message.t - (message.index + 1) * self._tr_s[message.run]
            self._zero_t[message.run] = min(began_t, self._zero_t.get(message.run, began_t))
        elif isinstance(message, EventAdded) and message.trial is not None:
            self._onsets_s[message.run, message.trial] = message.onset_s
        elif isinstance(message, Result | Reconstruction) and message.stage == self.plan.stage:
            return self._resolve(message)
        return None

    def due(self, now: float) -> list[Feedback]:
        """The fallbacks of the trials whose deadline has passed, in the order of their onsets."""
        late = sorted((t, trial) for trial in self._onsets_s if (t := self._deadline_t(trial)) is not None and t <= now)
        for _, trial in late:
            del self._onsets_s[trial]
        return [Feedback(trial, fallback=True) for _, trial in late if self.plan.show != "nothing"]

    def next_t(self) -> float | None:
        """When the next deadline is; None if nothing is awaited whose time is known."""
        return min((t for trial in self._onsets_s if (t := self._deadline_t(trial)) is not None), default=None)

    def _deadline_t(self, trial: Trial) -> float | None:
        zero_t = self._zero_t.get(trial[0])
        return None if zero_t is None else zero_t + self._onsets_s[trial] + self.plan.deadline_s

    def _resolve(self, message: Result | Reconstruction) -> Feedback | None:
        trial, show = (message.run, message.trial), self.plan.show
        if trial not in self._onsets_s:  # too late, or shown before
            return None
        found: Feedback | None = None
        if isinstance(message, Reconstruction):
            if show == "reconstruction" and message.version != "preview":
                found = Feedback(trial, image=message.image)
        elif show == "candidate" and message.candidates:
            first = message.candidates[0]
            found = Feedback(trial, text=first.label or first.id)
        elif show == "confidence":
            found = Feedback(trial, value=message.confidence)
        if found is not None:
            del self._onsets_s[trial]
        return found
