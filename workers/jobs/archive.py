"""``python -m workers.jobs.archive SESSION``: writes the archive of a closed session after its last result.

Knows nothing of how results are computed: it reads the session's logs and blobs.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from mindsight.archive import write_archive
from mindsight.bus import Bus, Lease, WorkQueue
from mindsight.errors import BusUnavailable, Conflict, MindsightError
from mindsight.evaluation.visit_report import write_report
from mindsight.files.digest import sha256_of
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.printing import outlive_full_logs
from mindsight.processes import is_gone, process_name
from mindsight.protocol import (
    NO_FITS,
    BetaReady,
    Captioned,
    Message,
    Reconstruction,
    ReconstructionFit,
    ReconstructionSkipped,
    Result,
    SessionArchived,
    Warned,
    dump_message,
)
from mindsight.protocol.inputs import StartRun
from mindsight.settings import Settings, read_settings
from workers.ingest.runner import series_path, snapshot_path
from workers.jobs.gather import gather_session
from workers.process import BUS_DEADLINE_S, NICE

RESULTS_DEADLINE_S = 120.0
POLL_S = 0.25
WRITING_S = 600.0  # at most; on the same machine an archivist that ended is noticed at once


@dataclass(frozen=True, eq=False)
class Archivist:
    """Writes one session's archive.

    results_deadline_s : how long to wait for the last results
    """

    settings: Settings
    bus: Bus
    session: str
    results_deadline_s: float = RESULTS_DEADLINE_S

    @property
    def journal(self) -> Journal:
        return Journal(self.bus, self.session)

    def archive(self) -> Path:
        """Wait for the last results, write the archive, log it in the session. Calling it again changes nothing.

        Raises Conflict (``archive.running``) while another process writes it.
        """
        ttl_s = self.results_deadline_s + WRITING_S
        lease = Lease.acquire(self.bus, f"{self.session}-archive", process_name(), ttl_s, is_gone)
        if lease is None:
            raise Conflict("another process writes this archive now: wait for it", code="archive.running")
        try:
            return self._archive()
        except (MindsightError, OSError) as error:
            self._say(error)
            raise
        finally:
            with suppress(BusUnavailable):
                lease.release()

    def _archive(self) -> Path:
        recorder = Recorder(self.bus, self.session, time.time)
        recorder.check_closed()
        messages = self.await_results()
        name = f"{self.journal.opened().subject}_{self.session}"
        folder = self.settings.archive_dir / name
        if not any(isinstance(message, SessionArchived) for message in messages):
            shutil.rmtree(folder, ignore_errors=True)  # it may be complete, but was not logged: write it again
            files = write_archive(gather_session(self.journal, self.session, messages, self.settings), folder)
            recorder.archive(f"archive/{name}", len(files) + _report(folder))
        else:
            Sessions(self.bus).advance(self.session, "archived")
        self._remove_state()
        return folder

    def _say(self, error: MindsightError | OSError) -> None:
        """Once in the session's messages: people who wait for its archive read no worker's log."""
        if isinstance(error, BusUnavailable):
            return
        reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)  # without paths
        text = f"the archive cannot be written, and is tried again every few seconds: {reason}"
        message = Warned(session=self.session, t=time.time(), code="archive.failed", text=text, level="error")
        with suppress(MindsightError):
            key = f"archive-failed-{sha256_of(text.encode())}"
            self.journal.messages.append(key, dump_message(message), identity=text)

    def _remove_state(self) -> None:
        """An archived session is never taken up again: what its workers kept for that goes."""
        runs = [entry.run for entry in self.journal.read_inputs() if isinstance(entry, StartRun)]
        for path in (
            snapshot_path(self.settings, self.session),
            *(series_path(self.settings, self.session, run) for run in runs),
        ):
            path.unlink(missing_ok=True)

    def await_results(self) -> list[Message]:
        """All messages, once every beta has its result, reconstruction and fit (or the reason for none), or no job is
        left, or at the deadline.

        Every job was queued before the session was closed, and a job leaves its queue only when what follows from it is
        written (including the reconstruction's job) or when it was refused. Empty queues therefore mean that nothing
        more will come.
        """
        queues = [WorkQueue(self.bus, name) for name in ("inference", "pictures", "refinements")]
        deadline_s = time.monotonic() + self.results_deadline_s
        while True:
            idle = all(len(queue) == 0 for queue in queues)  # before the log, which then has what they led to
            messages = list(self.journal.read_messages())
            betas = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, BetaReady)}
            results = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, Result)}
            skipped = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, ReconstructionSkipped)}
            has_fits = not any(isinstance(m, Warned) and m.code == NO_FITS for m in messages)
            fitted = {m.image for m in messages if isinstance(m, ReconstructionFit)}
            last = [m for m in messages if self._is_drawn(m)]
            drawn = {(m.run, m.trial, m.stage) for m in last if m.image in fitted or not has_fits}
            captioned = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, Captioned)}
            if self.settings.captions_dir is not None:
                drawn &= captioned
            complete = betas <= results & (skipped | drawn)
            if complete or idle or Sessions(self.bus).get(self.session).bundle is None or time.monotonic() > deadline_s:
                return messages
            time.sleep(POLL_S)

    def _is_drawn(self, message: Message) -> TypeGuard[Reconstruction]:
        """Whether it is the last version that comes of this stage."""
        if not isinstance(message, Reconstruction):
            return False
        is_refined = message.stage == "final" and self.settings.refiner_dir is not None
        return message.version == ("refined" if is_refined else "full")


def _report(folder: Path) -> int:
    """The session's page beside its derivatives; the number of files written. Without it, what was measured is archived
    all the same."""
    try:
        write_report(folder)
        return 1
    except (MindsightError, OSError, ArithmeticError, LookupError, ValueError) as error:
        print(f"archive: {folder.name} has no report; mindsight report makes it: {error}", file=sys.stderr, flush=True)
        return 0


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m workers.jobs.archive SESSION", file=sys.stderr)
        return 2
    outlive_full_logs()
    os.nice(NICE)
    try:
        settings = read_settings()
        bus = Bus.from_settings(settings)
        bus.wait_ready(BUS_DEADLINE_S)
        folder = Archivist(settings, bus, sys.argv[1]).archive()
    except MindsightError as error:
        print(f"archive: session {sys.argv[1]}: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"mindsight archive written: {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
