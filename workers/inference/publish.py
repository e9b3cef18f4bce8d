"""What an inference worker writes into a session's log, under keys by which a job that is done twice is logged once."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mindsight.bus import Bus, Log
from mindsight.errors import MindsightError
from mindsight.protocol import Message, Reconstruction, Warned, dump_message
from mindsight.protocol.work import BetaWork

Source = BetaWork | Reconstruction
"""What a message follows from: both name a session, a run, a trial and a stage."""


@dataclass(frozen=True)
class SessionLogs:
    """The message logs of all sessions."""

    bus: Bus

    def publish(self, kind: str, work: Source, message: Message, identity: str) -> None:
        """Log what follows from a job.

        kind : one message of each kind is logged for a trial's stage
        """
        self._append(f"{kind}-{work.run}-{work.trial}-{work.stage}", message, identity)

    def warn(self, work: Source, error: MindsightError, lack: str) -> None:
        """Report that a job cannot be carried out.

        lack : what the trial has none of
        """
        text = f"trial {work.trial} of run {work.run} has {lack}: {error}"
        self.publish(f"warning-{error.code}", work, self._warned(work, error.code, text), error.code)

    def warn_once(self, work: Source, code: str, what: str, text: str) -> None:
        """Report what holds for the rest of the session, and was first noticed with this job.

        what : distinguishes it from the session's other warnings of this code
        """
        self._append(f"warning-{code}-{what}", self._warned(work, code, text), what)

    def _warned(self, work: Source, code: str, text: str) -> Warned:
        return Warned(
            session=work.session, t=time.time(), code=code, text=text, run=work.run, trial=work.trial, stage=work.stage
        )

    def _append(self, key: str, message: Message, identity: str) -> None:
        Log(self.bus, message.session, "messages").append(key, dump_message(message), identity=identity)
