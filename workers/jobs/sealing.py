"""What the bus keeps of archived sessions goes to the disk, so that its memory does not grow from session to session.

Knows nothing of archives. A session is sealed some time after its archive was written: whoever watched it has had its
last messages from the bus by then; who comes later has them from the disk, by the same routes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from mindsight.bus import Bus
from mindsight.bus.forget import forget_holder, forget_jobs
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.protocol import read_message

AFTER_S = 60.0
QUEUES = ("inference", "pictures", "refinements")


@dataclass
class Sealing:
    """Seals the sessions of a bus; remembers which it has done."""

    bus: Bus
    after_s: float = AFTER_S
    _done: set[str] = field(default_factory=set)

    def tidy(self) -> None:
        """Seal what was archived at least ``after_s`` ago. Raises BusUnavailable, StorageFull: try again later."""
        for session in Sessions(self.bus).archived() - self._done:
            if self._archived_t(session) < time.time() - self.after_s:
                seal(self.bus, session)
                self._done.add(session)

    def _archived_t(self, session: str) -> float:
        found = Journal(self.bus, session).messages.find("archived")
        return 0.0 if found is None else read_message(found.payload, found.seq, session).t


def seal(bus: Bus, session: str) -> None:
    """Both logs of an archived session. Repeating it changes nothing. Raises BusUnavailable, StorageFull."""
    journal = Journal(bus, session)
    journal.inputs.seal()
    journal.messages.seal()
    forget_work(bus, session)


def forget_work(bus: Bus, session: str) -> None:
    """Remove the session's jobs from every queue, and that they were ever put; nothing more is put for it."""
    for queue in QUEUES:
        forget_holder(bus, queue, session)
        forget_jobs(bus, queue, rf"{re.escape(session)}-\d+-\d+-[a-z]+")
