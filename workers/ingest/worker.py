"""``python -m workers.ingest``: takes sessions under a lease, reads their input logs in order, writes betas.

Knows nothing of decoding. Everything it writes carries its lease's fence and a key: after a kill it reads its snapshot,
replays the log from there, and repeats of what it had written are duplicates.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Lease, WorkQueue, read_many
from mindsight.errors import BusUnavailable, LeaseLost, MindsightError
from mindsight.journal.sessions import Sessions
from mindsight.processes import module_command
from mindsight.protocol.inputs import parse_input
from mindsight.settings import Settings
from workers.ingest.runner import SessionRunner
from workers.ingest.warm_up import warm_up
from workers.process import BUS_DEADLINE_S, run_process

LEASE_S = 6.0
RENEW_S = 2.0
LOOK_S = 0.5
PAGE = 64


@dataclass
class IngestWorker:
    """Runs every session whose lease it acquires, until ``stop`` is set."""

    settings: Settings
    bus: Bus
    name: str
    stop: threading.Event
    _runners: dict[str, SessionRunner] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    _archivists: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blobs = BlobStore(self.settings.blobs_dir)
        self.queue = WorkQueue(self.bus, "inference")

    def run(self) -> None:
        """Look for sessions, and apply new inputs of those held; waits for a bus that is away."""
        threading.Thread(target=self._renew, name="leases", daemon=True).start()
        looked_s = 0.0
        while not self.stop.is_set():
            try:
                if time.monotonic() - looked_s > LOOK_S:
                    self._take_sessions()
                    looked_s = time.monotonic()
                self._advance()
            except BusUnavailable as error:
                print(f"ingest: {error}", file=sys.stderr, flush=True)
                # the sessions may belong to others by the time the bus is back; snapshots and logs have their state
                self._runners.clear()
                self.bus.wait_ready(BUS_DEADLINE_S)
        for runner in self._runners.values():
            runner.save()
            runner.lease.release()

    def _take_sessions(self) -> None:
        for record in Sessions(self.bus).list():
            if record.state == "archived" or record.session in self._runners:
                continue
            if record.session in self._archivists and self._archivists[record.session].poll() is None:
                continue
            lease = Lease.acquire(self.bus, record.session, self.name, LEASE_S)
            if lease is not None:
                try:
                    self._runners[record.session] = SessionRunner.resume(
                        record.session, lease, self.bus, self.blobs, self.queue, self.settings
                    )
                except MindsightError as error:
                    lease.release()
                    print(f"ingest: session {record.session} cannot be taken: {error}", file=sys.stderr, flush=True)

    def _advance(self) -> None:
        for session in list(self._lost):
            self._runners.pop(session, None)
            self._lost.discard(session)
        if not self._runners:
            self.stop.wait(LOOK_S / 2)
            return
        positions = {runner.inputs: runner.position for runner in self._runners.values()}
        found = read_many(positions, LOOK_S / 2, PAGE)
        for log, entries in found.items():
            with self._holding(log.session):
                for entry in entries:
                    self._runners[log.session].apply(entry.seq, parse_input(entry.payload))
                    if self.stop.is_set() or log.session in self._lost:
                        break
        for session in (log.session for log in found if log.session in self._runners):
            with self._holding(session):
                self._runners[session].tidy()
            runner = self._runners.get(session)
            if runner is not None and runner.closed:
                runner.lease.release()
                del self._runners[session]
                self._archive(session)

    @contextmanager
    def _holding(self, session: str) -> Iterator[None]:
        """Give the session up if another worker has its lease."""
        try:
            yield
        except LeaseLost as error:
            print(f"ingest: session {session}: {error}", file=sys.stderr, flush=True)
            self._runners.pop(session, None)

    def _archive(self, session: str) -> None:
        """The archive is written by a process of its own: compressing must not delay another session's volumes."""
        command = module_command("workers.jobs.archive", session)
        self._archivists[session] = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603

    def _renew(self) -> None:
        while not self.stop.wait(RENEW_S):
            for session, runner in list(self._runners.items()):
                try:
                    runner.lease.renew()
                except LeaseLost:
                    self._lost.add(session)
                except MindsightError:
                    continue  # the main loop uses the same bus, and reports it


def main() -> int:
    holder = f"{socket.gethostname()}-{os.getpid()}-{hashlib.sha256(os.urandom(8)).hexdigest()[:6]}"
    return run_process(
        "ingest", lambda _: warm_up(), lambda settings, bus, stop: IngestWorker(settings, bus, holder, stop).run()
    )
