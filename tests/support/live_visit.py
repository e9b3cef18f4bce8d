"""A session that is calibrated while it is scanned: what ingest does with it, and the job that follows it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from mindsight.blobs import BlobStore
from mindsight.bus import Lease, WorkQueue
from mindsight.decoding import TrialDecoder
from mindsight.errors import LeaseLost
from mindsight.journal.declare import Recorder
from mindsight.journal.jobs import Jobs, log_name
from mindsight.journal.read import entries
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.inputs import SessionOptions
from mindsight.protocol.jobs import CalibrationTask, JobRecord
from mindsight.protocol.work import BetaWork, parse_work
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version
from support.house import House
from support.two_sides import CONSENT, SIDES, SidesRun, scan
from workers.inference.results import read_betas
from workers.ingest.runner import SessionRunner
from workers.jobs.archive import Archivist
from workers.jobs.calibration import calibrate
from workers.jobs.desk import Desk

DEADLINE_S = 180.0


class Visit:
    """A session, what ingest does with it, and the job that follows it in a thread."""

    def __init__(self, house: House, options: SessionOptions = SIDES, **task: Any) -> None:
        self.house = house
        self.subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
        self.recorder = Recorder(house.bus, "ses-a", time.time)
        self.recorder.open(SessionRecord(session="ses-a", subject=self.subject, options=options, opened_t=time.time()))
        queue = WorkQueue(house.bus, "inference")
        lease = Lease.acquire(house.bus, "ses-a", "test", 60.0)
        assert lease is not None
        self._resume: Callable[[], SessionRunner] = lambda: SessionRunner.resume(
            "ses-a", lease, house.bus, BlobStore(house.settings.blobs_dir), queue, house.settings
        )
        jobs = Jobs(house.bus, time.time)
        self.record = jobs.create(
            JobRecord(job="job-a", task=CalibrationTask(subject=self.subject, live="ses-a", **task), created_t=1.0)
        )
        self.said: str | Exception = ""
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Start the job, as its process would."""
        lease = Lease.acquire(self.house.bus, log_name("job-a"), "test", 60.0, lambda _: True)
        assert lease is not None
        desk = Desk(self.house.settings, self.house.bus, self.record, lease)

        def work() -> None:
            try:
                assert isinstance(self.record.task, CalibrationTask)
                self.said = calibrate(desk, self.record.task)
            except LeaseLost:
                pass  # another has taken the job over
            except Exception as error:
                traceback.print_exc()
                self.said = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def scan(self, run: SidesRun) -> None:
        scan(self.house, self.recorder, run)
        self.ingest()

    def ingest(self) -> None:
        """All that is in the log, by a worker that has just taken the session over."""
        runner = self._resume()
        for entry in entries(runner.inputs, runner.position):
            runner.take(entry)
        runner.save()

    def end(self, *, archives: bool = False) -> str | Exception:
        """Close the session; what the job says.

        archives : whether its archive is really written
        """
        self.recorder.close()
        self.ingest()
        if archives:
            Archivist(self.house.settings, self.house.bus, "ses-a", results_deadline_s=0.1).archive()
        else:
            self.recorder.archive("archive/ses-a", 1)
        return self.end_of_job()

    def end_of_job(self) -> str | Exception:
        assert self._thread is not None
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.said

    @property
    def versions(self) -> tuple[Version, ...]:
        from workers.jobs.desk import version_store

        return version_store(self.house.settings).read(self.subject).versions

    def until(self, n: int) -> None:
        """Wait for so many versions, and for the session to name the last."""
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s and not isinstance(self.said, Exception):
            held = self.versions
            if len(held) >= n and Sessions(self.house.bus).get("ses-a").bundle == held[-1].bundle:
                return
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for version {n}: {self.versions}, {self.said!r}")

    def work_of(self, run: int) -> list[BetaWork]:
        """The final betas of a run that were queued to be decoded."""
        stream = self.house.bus.command("XRANGE", "q:{inference}:log", "-", "+")
        works = [parse_work(dict(zip(f[::2], f[1::2], strict=True))[b"p"]) for _, f in stream]
        return [work for work in works if (work.run, work.stage) == (run, "final")]

    def right(self, run: SidesRun) -> int:
        """How many of the run's final betas are decoded to what was shown, by the bundle that each names."""
        (name,) = {work.bundle for work in self.work_of(run.run)}
        assert name is not None
        bundle = Bundle.load(self.house.settings.bundles_dir / name)
        decoder, blobs = TrialDecoder(bundle, clock=time.perf_counter), BlobStore(self.house.settings.blobs_dir)
        found = [decoder.retrieve(*read_betas(work, bundle, blobs)) for work in self.work_of(run.run)]
        return sum(r.candidates[0].id == label for r, label in zip(found, run.labels, strict=True))
