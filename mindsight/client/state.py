"""What has happened in a session so far, for programs that wait for results. Knows nothing of how messages come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from mindsight.errors import NotFound
from mindsight.protocol import (
    BetaReady,
    Message,
    Result,
    RunEnded,
    RunStarted,
    SessionArchived,
    SessionClosed,
    SpaceKnown,
)
from mindsight.stages import STAGES, Stage

OneMessage = TypeVar("OneMessage", bound=Message)


class SessionState:
    """The session's messages in order, and the latest of each trial and stage."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.run: int | None = None
        """The run that began last."""
        self.is_archived = False
        self._is_closed = False
        self._ended: set[int] = set()
        self._results: dict[tuple[int, int, Stage], Result] = {}
        self._betas: dict[tuple[int, int, Stage], BetaReady] = {}

    def add(self, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, Result):
            self._results[message.run, message.trial, message.stage] = message
        elif isinstance(message, BetaReady):
            self._betas[message.run, message.trial, message.stage] = message
        elif isinstance(message, RunStarted):
            self.run = message.run
        elif isinstance(message, RunEnded):
            self._ended.add(message.run)
        elif isinstance(message, SessionClosed):
            self._is_closed = True
        elif isinstance(message, SessionArchived):
            self.is_archived = True

    def of(self, kind: type[OneMessage]) -> Iterator[OneMessage]:
        """The messages of a kind so far, in order."""
        return (message for message in list(self.messages) if isinstance(message, kind))

    def result(self, trial: int, stage: Stage, run: int | None = None) -> Result | None:
        """The newest result of the trial at this stage or a later one; None as long as there is none.

        run : None for the one that began last

        Raises NotFound (``result.none``) once there can be none: the session is archived.
        """
        run = self.run if run is None else run
        for later in reversed(STAGES[STAGES.index(stage) :]):
            if run is not None and (found := self._results.get((run, trial, later))) is not None:
                return found
        if self.is_archived:
            raise NotFound(
                f"expected a {stage} result of trial {trial}, the session ended without: was it declared as an event,"
                " and has the subject a bundle?",
                code="result.none",
            )
        return None

    def beta(self, trial: int, stage: Stage, run: int | None = None) -> BetaReady:
        """The trial's beta at this stage. Raises NotFound (``beta.none``)."""
        run = self.run if run is None else run
        found = None if run is None else self._betas.get((run, trial, stage))
        if found is None:
            raise NotFound(f"there is no {stage} beta of trial {trial} so far", code="beta.none")
        return found

    def space(self) -> SpaceKnown:
        """The session's grid and mask. Raises NotFound (``space.none``) before its first volume."""
        found = next(self.of(SpaceKnown), None)
        if found is None:
            raise NotFound("the session's space is known with its first volume, which has not come", code="space.none")
        return found
