"""What the bus keeps of archived sessions goes to the disk, so that its memory does not grow from session to session.

Knows nothing of archives. A session is sealed some time after its archive was written: whoever watched it has had its
last messages from the bus by then; who comes later has them from the disk, by the same routes.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

from mindsight.bus import Bus
from mindsight.bus.forget import forget_holder, forget_jobs
from mindsight.errors import BadRequest
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.protocol import read_message

AFTER_S = 60.0
FIND_S = 120.0  # from one reading of the whole list of sessions to the next
QUEUES = ("inference", "pictures", "refinements")


@dataclass
class Sealing:
    """Seals the sessions of a bus."""

    bus: Bus
    after_s: float = AFTER_S
    _found_s: float = -math.inf

    def tidy(self) -> None:
        """Seal what was archived at least ``after_s`` ago. Raises BusUnavailable, StorageFull: try again later."""
        sessions = Sessions(self.bus)
        if time.monotonic() > self._found_s + FIND_S:
            sessions.find_unlisted()
            self._found_s = time.monotonic()
        for session in sessions.unsealed():
            try:
                self._tidy(sessions, session)
            except BadRequest as damaged:  # no reason to keep others on the bus
                print(f"jobs: session {session} stays on the bus: {damaged}", file=sys.stderr, flush=True)

    def _tidy(self, sessions: Sessions, session: str) -> None:
        if self._archived_t(session) > time.time() - self.after_s:
            return
        if seal(self.bus, session):
            sessions.settle(session)
        elif self.bus.sealed is not None and not sessions.has(session):
            self.bus.sealed.forget(session)  # it was erased while it was written

    def _archived_t(self, session: str) -> float:
        found = Journal(self.bus, session).messages.find("archived")
        return 0.0 if found is None else read_message(found.payload, found.seq, session).t


def seal(bus: Bus, session: str) -> bool:
    """Both logs of an archived session. Repeating it changes nothing. Raises BusUnavailable, StorageFull.

    False if something was added meanwhile, or the session was erased.
    """
    journal = Journal(bus, session)
    sealed = journal.inputs.seal() and journal.messages.seal()
    forget_work(bus, session)
    return sealed


def forget_work(bus: Bus, session: str, *, held: bool = False) -> int:
    """Remove the session's jobs from every queue, and that they were ever put; nothing more is put for it.

    held : also those that a worker holds. Without it: how many there are; if none, nothing more comes of any, since
        one that is done has put its job into a later queue
    """
    n_held = 0
    for queue in QUEUES:
        forget_holder(bus, queue, session)
        n_held += forget_jobs(bus, queue, lambda key: key.rsplit("-", 3)[0] == session, held=held)  # run, trial, stage
    return n_held
