"""``python -m workers.ingest``: takes sessions under a lease, and gives each a process that reads its input log.

Knows nothing of what a session's inputs mean. Everything that is written carries the lease's fence and a key: after a
kill the next process reads the session's snapshot and replays the log from there, and repeats are duplicates.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess

from mindsight.bus import Bus, Lease, Quarantine
from mindsight.errors import BusUnavailable, LeaseLost, MindsightError, StorageFull
from mindsight.journal.sessions import Sessions
from mindsight.processes import is_gone, module_command, process_name
from mindsight.settings import Settings
from workers.ingest.server import ready_server
from workers.ingest.session_process import Ended, Position, lead
from workers.process import BUS_DEADLINE_S, STORAGE_S, run_process

LEASE_S = 6.0
RENEW_S = 2.0
LOOK_S = 0.25  # a session whose worker ended waits for no longer
WAIT_S = 0.25
STOP_S = 10.0  # for a session's process to save its state
REFUSED_S = 5.0  # until a session that could not be led is tried again
MAX_DEATHS = 3  # of a session's process at one entry, until the entry is in quarantine


@dataclass(eq=False)
class Held:
    """A session whose lease this worker has, and its process."""

    lease: Lease
    process: ForkServerProcess
    position: Position


@dataclass(eq=False)
class Archiving:
    """A closed session whose lease this worker keeps until it is archived, so that no other has it archived too.

    again_s : when another archivist is started, if this one failed
    """

    lease: Lease
    archivist: subprocess.Popen[bytes]
    again_s: float | None = None


@dataclass
class IngestWorker:
    """Leads every session whose lease it acquires, until ``stop`` is set."""

    settings: Settings
    bus: Bus
    stop: threading.Event
    processes: ForkServerContext
    _held: dict[str, Held] = field(default_factory=dict)
    _deaths: Counter[tuple[str, int]] = field(default_factory=Counter)
    _not_before_s: dict[str, float] = field(default_factory=dict)
    _archiving: dict[str, Archiving] = field(default_factory=dict)

    def run(self) -> None:
        """Look for sessions, and for those whose process ended; waits for a bus that is away or full."""
        name = process_name()
        threading.Thread(target=self._renew, name="leases", daemon=True).start()
        looked_s = 0.0
        try:
            while not self.stop.is_set():
                try:
                    if time.monotonic() - looked_s > LOOK_S:
                        self._take_sessions(name)
                        looked_s = time.monotonic()
                    self._follow_up()
                except BusUnavailable as error:
                    print(f"ingest: {error}", file=sys.stderr, flush=True)
                    self.bus.wait_ready(BUS_DEADLINE_S, self.stop)
                except StorageFull:  # the process of a session reports it
                    self.stop.wait(STORAGE_S)
        finally:
            self._end_all()

    def _take_sessions(self, name: str) -> None:
        self._reap()
        passed = {*self._held, *self._archiving, *self._not_before_s}
        unfinished = sorted(Sessions(self.bus).unfinished(), key=lambda record: record.opened_t)
        sessions = [record.session for record in unfinished if record.session not in passed]
        holders = Lease.holders(self.bus, sessions)
        gone = {holder for holder in set(holders) if holder is None or is_gone(holder)}
        for session, holder in zip(sessions, holders, strict=True):
            lease = Lease.acquire(self.bus, session, name, LEASE_S, is_gone) if holder in gone else None
            if lease is not None:
                self._start(session, lease)

    def _reap(self) -> None:
        """Let go of sessions that are archived; where an archivist failed, another is started later."""
        now_s = time.monotonic()
        self._not_before_s = {session: at_s for session, at_s in self._not_before_s.items() if at_s > now_s}
        for session, archiving in list(self._archiving.items()):
            code = archiving.archivist.poll()
            if code == 0:
                archiving.lease.release()
                del self._archiving[session]
            elif code is not None and archiving.again_s is None:
                archiving.again_s = now_s + REFUSED_S
            elif archiving.again_s is not None and now_s >= archiving.again_s:
                del self._archiving[session]
                with suppress(LeaseLost):
                    archiving.lease.renew()
                    self._archive(session, archiving.lease)

    def _start(self, session: str, lease: Lease) -> None:
        position: Position = self.processes.RawValue(ctypes.c_longlong, 0)
        process = self.processes.Process(
            target=lead, args=(session, lease.holder, lease.ttl_s, lease.fence.token, position), name=session
        )
        try:
            process.start()
        except (OSError, EOFError) as error:
            self._later(session, lease, error)
        else:
            self._held[session] = Held(lease, process, position)

    def _follow_up(self) -> None:
        """Wait for a process to end, and do what its end asks for."""
        if not self._held:
            self.stop.wait(WAIT_S)
            return
        wait([held.process.sentinel for held in self._held.values()], timeout=WAIT_S)
        for session, held in list(self._held.items()):
            if held.process.exitcode is not None:
                self._ended(session, held, held.process.exitcode)

    def _ended(self, session: str, held: Held, code: int) -> None:
        if code == Ended.LEASE_LOST:
            del self._held[session]
            return
        if code == Ended.CLOSED:
            del self._held[session]
            self._archive(session, held.lease)
            return
        if code == Ended.REFUSED:
            del self._held[session]
            held.lease.release()
            self._not_before_s[session] = time.monotonic() + REFUSED_S
            return
        try:
            held.lease.renew()
        except LeaseLost:
            del self._held[session]
            return
        if code in (Ended.LATER, Ended.FAULT):
            self.stop.wait(WAIT_S)  # it may happen again at once
        elif code != Ended.STOPPED and (at := held.position.value):
            self._died(session, held.lease, at)
        self._start(session, held.lease)

    def _died(self, session: str, lease: Lease, at: int) -> None:
        """Count what ended a process from outside: memory, a signal, a fault in compiled code."""
        self._deaths[session, at] += 1
        if self._deaths[session, at] >= MAX_DEATHS:
            Quarantine(self.bus, session).add(at, f"its process ended {MAX_DEATHS} times", lease.fence)

    def _archive(self, session: str, lease: Lease) -> None:
        """The archive is written by a process of its own: compressing must not delay another session's volumes."""
        command = module_command("workers.jobs.archive", session)
        try:
            archivist = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
        except OSError as error:
            self._later(session, lease, error)
        else:
            self._archiving[session] = Archiving(lease, archivist)

    def _later(self, session: str, lease: Lease, error: OSError | EOFError) -> None:
        """The machine has no process left for a session: no reason to let go of the others."""
        text = getattr(error, "strerror", None) or type(error).__name__
        print(f"ingest: session {session} has no process, and waits for one: {text}", file=sys.stderr, flush=True)
        self._held.pop(session, None)
        lease.release()
        self._not_before_s[session] = time.monotonic() + REFUSED_S

    def _end_all(self) -> None:
        """Let every session's process save its state, then give the leases back."""
        for held in self._held.values():
            held.process.terminate()
        until_s = time.monotonic() + STOP_S
        for session, held in self._held.items():
            held.process.join(max(0.0, until_s - time.monotonic()))
            if held.process.exitcode is None:
                print(f"ingest: session {session} did not stop within {STOP_S:g} s", file=sys.stderr, flush=True)
                held.process.kill()
                held.process.join()
        with suppress(BusUnavailable):  # who comes next sees that this process is gone, or waits until leases end
            for lease in [one.lease for one in self._held.values()] + [one.lease for one in self._archiving.values()]:
                lease.release()

    def _renew(self) -> None:
        while not self.stop.wait(RENEW_S):
            for held in list(self._held.values()):
                try:
                    held.lease.renew()
                except LeaseLost:
                    held.process.terminate()  # it would notice with its next write
                except MindsightError:
                    continue  # the main loop uses the same bus, and reports it
            for archiving in list(self._archiving.values()):
                with suppress(MindsightError):  # the archivist has a lease of its own
                    archiving.lease.renew()


def main() -> int:
    started: list[ForkServerContext] = []
    return run_process(
        "ingest",
        lambda _: started.append(ready_server()),
        lambda settings, bus, stop: IngestWorker(settings, bus, stop, started[0]).run(),
    )
