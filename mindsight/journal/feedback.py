"""What a session's participant is to see, and what was drawn: in the message log, since no result depends on it.

Knows nothing of screens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from mindsight.bus import Bus, ConditionFailed
from mindsight.errors import Conflict, OutOfOrder
from mindsight.journal.read import Journal, unknown_session
from mindsight.journal.sessions import Sessions
from mindsight.journal.states import Refusal
from mindsight.protocol import FeedbackChosen, FeedbackDrawn, dump_message, parse_message
from mindsight.protocol.feedback import FeedbackPlan
from mindsight.protocol.inputs import CLOSED_KEY, SESSION_KEY

_COUNTER = "feedback"


@dataclass(frozen=True)
class FeedbackRecorder:
    """One session's feedback. ``now`` : seconds since the Unix epoch."""

    bus: Bus
    session: str
    now: Callable[[], float]

    def plan(self) -> FeedbackPlan:
        """What the experimenter chose last; by default nothing is shown. Raises NotFound for an unknown session."""
        Sessions(self.bus).get(self.session)
        log = Journal(self.bus, self.session).messages
        n = log.next_index(_COUNTER)
        entry = log.find(f"feedback-{n - 1}") if n else None
        chosen = None if entry is None else parse_message(entry.payload)
        return chosen.plan if isinstance(chosen, FeedbackChosen) else FeedbackPlan()

    def choose(self, plan: FeedbackPlan) -> FeedbackPlan:
        """Show this from the next result on. Choosing the same again changes nothing.

        Raises NotFound, Conflict (``session.closed``).
        """
        while self.plan() != plan:
            log = Journal(self.bus, self.session).messages
            n = log.next_index(_COUNTER)
            message = FeedbackChosen(session=self.session, t=self.now(), plan=plan)
            try:
                log.append(
                    f"feedback-{n}",
                    dump_message(message),
                    order=(_COUNTER, n),
                    requires=[SESSION_KEY],
                    unless=[CLOSED_KEY],
                )
            except ConditionFailed as failed:
                _explain(failed)
            except OutOfOrder:  # another was chosen meanwhile: this one comes after it
                continue
        return plan

    def drawn(self, screen: str, message: FeedbackDrawn) -> None:
        """Log what a screen has drawn, once. Raises Conflict (``session.closed``)."""
        try:
            Journal(self.bus, self.session).messages.append(
                f"drawn-{screen}-{message.number}",
                dump_message(message),
                requires=[SESSION_KEY],
                unless=[CLOSED_KEY],
            )
        except ConditionFailed as failed:
            _explain(failed)


def _explain(failed: ConditionFailed) -> NoReturn:
    if failed.key == SESSION_KEY:
        raise unknown_session() from None
    raise Conflict("the session is closed; open another one", code=Refusal.CLOSED.value) from None
