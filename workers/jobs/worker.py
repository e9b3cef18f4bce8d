"""``python -m workers.jobs``: takes jobs from their queue, and gives each a process of its own.

Knows nothing of what jobs do. This process is light: it holds the job's lease, renews it, and stops the job's process
when the job is cancelled, when its deadline has passed, or when this worker stops. A job whose process was ended from
outside goes on from its scratch folder; after MAX_DELIVERIES such ends with nothing kept in between,
it has failed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field

from mindsight.bus import MAX_DELIVERIES, Bus, Job, Lease
from mindsight.errors import BusUnavailable, Conflict, LeaseLost, MindsightError, NotFound, StorageFull
from mindsight.journal.jobs import FINISHED, Jobs, log_name
from mindsight.processes import ending_with_parent, is_gone, module_command, process_name
from mindsight.protocol.jobs import JobBegan, JobRecord, dump_job_message
from mindsight.settings import Settings
from workers.jobs.sealing import Sealing
from workers.process import BUS_DEADLINE_S, STORAGE_S, run_process

SLOTS = 2  # jobs at a time: one that waits for a scanner must not keep others waiting
LEASE_S, RENEW_S = 10.0, 2.0
LOOK_S, TIDY_S, SEAL_S = 0.25, 2.0, 30.0
END_S = 10.0  # for a process to end after SIGTERM
DEADLINES_S = {"calibration": 8 * 3600.0, "pool": 24 * 3600.0, "erasure": 3600.0, "simulation": 8 * 3600.0}
PASSING = ("progress-", "began-")  # keys of messages behind which nothing is kept
REFUSED, LATER = 10, 11  # exit codes of a job's process: it has reported its failure; the machinery failed


@dataclass
class JobsWorker:
    """Carries out jobs, SLOTS at a time, until ``stop`` is set."""

    settings: Settings
    bus: Bus
    name: str
    stop: threading.Event
    slots: int = SLOTS
    _failure: Exception | None = None
    _tidied_s: float = field(default=0.0)
    _sealed_s: float = field(default=0.0)
    _sealing: Sealing = field(init=False)

    def __post_init__(self) -> None:
        self._sealing = Sealing(self.bus)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.bus, time.time)

    def run(self) -> None:
        """Raises what ends one of the slots; waits for a bus that is away or full."""
        slots = [threading.Thread(target=self._slot, args=(i,), name=f"slot-{i}") for i in range(self.slots)]
        for slot in slots:
            slot.start()
        for slot in slots:
            slot.join()
        if self._failure is not None:
            raise self._failure

    def _slot(self, number: int) -> None:
        try:
            while not self.stop.is_set():
                try:
                    self._next(f"{self.name}-{number}", first=number == 0)
                except BusUnavailable as error:
                    print(f"jobs: {error}", file=sys.stderr, flush=True)
                    self.bus.wait_ready(BUS_DEADLINE_S, self.stop)
                except StorageFull:
                    self.stop.wait(STORAGE_S)
        except Exception as error:  # handed to the main thread, which ends the process with it
            self._failure = error
            self.stop.set()

    def _next(self, consumer: str, *, first: bool) -> None:
        queue = self.jobs.queue
        if first and time.monotonic() > self._tidied_s + TIDY_S:
            self._tidied_s = time.monotonic()
            self.tidy()
        if first and time.monotonic() > self._sealed_s + SEAL_S:
            self._sealed_s = time.monotonic()
            self._seal()
        for waiting in reversed(queue.waiting(consumer)):
            delivered = queue.claim(waiting, consumer)
            if delivered is not None and self.carry_out(delivered, consumer):
                return
        self.stop.wait(LOOK_S)

    def tidy(self) -> None:
        """Queue what was created and never queued, and fail what was delivered too often."""
        unfinished = {record.job: record for record in self.jobs.unfinished()}
        for record in unfinished.values():
            self.jobs.enqueue(record)
        if not unfinished:
            return
        for letter in self.jobs.queue.dead():
            record_of = unfinished.get(letter.payload.decode())
            if record_of is not None and letter.key == f"{record_of.job}-{record_of.attempt}":
                text = (
                    f"its process was ended {MAX_DELIVERIES} times without progress; resume it when the reason is known"
                )
                with suppress(Conflict, NotFound):  # it was cancelled or erased meanwhile
                    self.jobs.finish(record_of, "failed", text, "job.ended")

    def _seal(self) -> None:
        try:
            self._sealing.tidy()
        except StorageFull as error:  # nothing depends on it
            print(f"jobs: archived sessions stay on the bus: {error}", file=sys.stderr, flush=True)

    def carry_out(self, delivered: Job, consumer: str) -> bool:
        """One job, from its lease to its end. False if it is left to a worker of another version."""
        try:
            record = self.jobs.get(delivered.payload.decode())
        except NotFound:  # it was erased
            delivered.ack()
            return True
        except Conflict:
            delivered.release()
            return False
        if record.state in FINISHED or delivered.key != f"{record.job}-{record.attempt}":
            delivered.ack()
            return True
        lease = Lease.acquire(self.bus, log_name(record.job), process_name(), LEASE_S, is_gone)
        if lease is None:
            self.stop.wait(LOOK_S)
            return True
        try:
            self._lead(record, lease, delivered, consumer)
        except (LeaseLost, Conflict, NotFound):
            pass  # another worker carries it out, or it was cancelled, ended or erased meanwhile: it is delivered again
        except OSError as error:
            print(f"jobs: {record.job} has no process: {error.strerror}", file=sys.stderr, flush=True)
            self.stop.wait(RENEW_S)
        finally:
            with suppress(BusUnavailable):
                lease.release()
        return True

    def _lead(self, record: JobRecord, lease: Lease, delivered: Job, consumer: str) -> None:
        jobs = self.jobs
        if record.state == "cancelling":
            jobs.finish(record, "cancelled", "cancelled", fence=lease.fence)
            delivered.ack()
            return
        jobs.begin(record, lease.fence)
        began = JobBegan(job=record.job, t=time.time())
        key = f"began-{lease.fence.token}"
        jobs.log(record.job).append(key, dump_job_message(began), identity=key, fence=lease.fence)
        process = self._start(record, lease)
        try:
            why = self._follow(process, record, lease, delivered, consumer)
        finally:
            _end(process)
        if why == "stopped":
            delivered.release()
        elif why is None and process.returncode == LATER:
            self.stop.wait(RENEW_S)  # the job stays with this consumer, and is delivered again
        elif why is None and process.returncode not in (0, REFUSED):
            print(f"jobs: {record.job} ended with {process.returncode} and goes on", file=sys.stderr, flush=True)
        else:
            if why == "cancelled":
                jobs.finish(record, "cancelled", "cancelled", fence=lease.fence)
            elif why == "deadline":
                hours = DEADLINES_S[record.task.kind] / 3600.0
                jobs.finish(record, "failed", f"it did not end within {hours:g} hours", "job.deadline", lease.fence)
            delivered.ack()

    def _start(self, record: JobRecord, lease: Lease) -> subprocess.Popen[bytes]:
        command = module_command("workers.jobs.child", record.job, lease.holder, str(lease.fence.token))
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=ending_with_parent()
        )

    def _follow(
        self, process: subprocess.Popen[bytes], record: JobRecord, lease: Lease, delivered: Job, consumer: str
    ) -> str | None:
        """Wait for the process; why it must be stopped, or None if it ended by itself. Raises LeaseLost."""
        until_s = time.monotonic() + DEADLINES_S[record.task.kind]
        renewed_s, seen = time.monotonic(), self.jobs.log(record.job).last_seq()
        while process.poll() is None:
            if self.stop.wait(LOOK_S):
                return "stopped"
            if time.monotonic() > until_s:
                return "deadline"
            if time.monotonic() < renewed_s + RENEW_S:
                continue
            renewed_s = time.monotonic()
            lease.renew()
            new = self.jobs.log(record.job).read(seen)
            delivered.hold(consumer, anew=any(not entry.key.startswith(PASSING) for entry in new))
            seen = new[-1].seq if new else seen
            if self.jobs.get(record.job).state == "cancelling":
                return "cancelled"
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S)


def main() -> int:
    name = f"{socket.gethostname()}-{os.getpid()}"

    def loop(settings: Settings, bus: Bus, stop: threading.Event) -> None:
        JobsWorker(settings, bus, name, stop).run()

    try:
        return run_process("jobs", lambda _: None, loop)
    except MindsightError:
        traceback.print_exc()
        return 1
