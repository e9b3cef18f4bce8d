"""A subject is calibrated while it is scanned: its betas come from ingest's own code, and decoders from the job's."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Lease, WorkQueue
from mindsight.decoding import TrialDecoder
from mindsight.errors import BadRequest, LeaseLost
from mindsight.journal.declare import Recorder
from mindsight.journal.jobs import Jobs, log_name
from mindsight.journal.read import Journal, entries
from mindsight.journal.sessions import Sessions
from mindsight.protocol import BundleChanged, Warned
from mindsight.protocol.jobs import CalibrationTask, JobRecord
from mindsight.protocol.work import BetaWork, parse_work
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version
from support.house import House
from support.two_sides import CONSENT, SidesRun, open_live, scan
from workers.inference.results import read_betas
from workers.ingest.runner import SessionRunner
from workers.jobs import followed as followed_module
from workers.jobs import live as live_module
from workers.jobs.calibration import calibrate
from workers.jobs.desk import Desk

DEADLINE_S = 30.0


class Visit:
    """A session, what ingest does with it, and the job that follows it in a thread."""

    def __init__(self, house: House, **task: Any) -> None:
        self.house = house
        self.subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
        self.recorder = open_live(house, self.subject, "ses-a")
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

    def end(self) -> str | Exception:
        self.recorder.close()
        self.ingest()
        self.recorder.archive("archive/ses-a", 1)
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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_module, "BLOCK_S", 0.02)


def test_each_run_is_decoded_by_the_runs_before_it(house: House) -> None:
    visit = Visit(house)
    visit.follow()
    visit.scan(SidesRun(1, noise=4.0))
    assert visit.work_of(1) == [], "there is nothing yet that could decode it"
    visit.until(1)
    runs = [SidesRun(n, noise=4.0) for n in (2, 3)]
    right, by = 0, []
    for run in runs:
        visit.scan(run)
        by.append({work.bundle for work in visit.work_of(run.run)})
        right += visit.right(run)
    print(f"{right} of 24 right, chance 12; decoded by {by}")
    assert right >= 18  # of 24 at chance 1/2: p = 0.011
    said = visit.end()
    assert isinstance(said, str), said
    assert "versions" in said
    session = Journal(house.bus, "ses-a")
    changes = [message for message in session.read_messages() if isinstance(message, BundleChanged)]
    assert [change.bundle for change in changes] == [version.bundle for version in visit.versions][: len(changes)]
    assert len(changes) >= 1
    assert not [message for message in session.read_messages() if isinstance(message, Warned)]
    bundle = Bundle.load(house.settings.bundles_dir / visit.versions[-1].bundle)
    assert (house.settings.bundles_dir / visit.versions[-1].bundle / "report" / "report.html").exists()
    assert bundle.space.n_voxels <= len(np.frombuffer(house.blobs.get(visit.work_of(3)[0].beta), "<f4"))


def test_a_job_that_was_ended_makes_no_version_twice(house: House) -> None:
    visit = Visit(house)
    visit.scan(SidesRun(1))
    visit.follow()
    visit.until(1)
    before = visit.versions
    visit.follow()  # another process takes the job over; the first may not write any more
    visit.scan(SidesRun(2, labels=("left", "right", "both", "right") * 3))  # with it come more classes
    visit.until(2)
    assert visit.versions[: len(before)] == before
    assert any("knows 3 labels" in version.verdict for version in visit.versions)
    visit.ingest()
    visit.follow()  # and once more, when there is nothing left to do
    assert isinstance(visit.end(), str), visit.said
    assert len({version.source for version in visit.versions}) == len(visit.versions)


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (("left",) * 12, "calibration.labels"),
        pytest.param(("left", "right"), "calibration.trials", marks=pytest.mark.slow),
        pytest.param((), "calibration.trials", marks=pytest.mark.slow),
    ],
)
def test_a_visit_that_never_has_enough_ends_with_what_is_needed(
    house: House, labels: tuple[str, ...], code: str
) -> None:
    visit = Visit(house)
    visit.follow()
    visit.scan(SidesRun(1, labels=labels))
    said = visit.end()
    assert isinstance(said, BadRequest), said
    assert said.code == code, said


def test_a_bundle_of_other_voxels_does_not_replace_one(house: House) -> None:
    from support.small_bundle import make_bundle

    visit = Visit(house)
    make_bundle().save(house.settings.bundles_dir / "other")
    visit.scan(SidesRun(1))
    Recorder(house.bus, "ses-a", time.time).set_bundle("other", "0" * 64, "of another brain")
    visit.scan(SidesRun(2))
    warned = [m for m in Journal(house.bus, "ses-a").read_messages() if isinstance(m, Warned)]
    assert [message.code for message in warned] == ["bundle.space"]
    assert visit.work_of(2) == []


@pytest.mark.slow
def test_a_silent_session_does_not_keep_its_calibration_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SILENCE_S", 0.3)
    visit = Visit(house)
    visit.scan(SidesRun(1))
    visit.follow()
    visit.until(1)
    until_s = time.monotonic() + DEADLINE_S
    while not visit.said and time.monotonic() < until_s:
        time.sleep(0.02)
    assert isinstance(visit.said, str)
    assert visit.said.endswith("silent for too long")


def test_a_pool_that_is_not_there_is_refused_at_once(house: House) -> None:
    visit = Visit(house, pool="none")
    visit.follow()
    said = visit.end()
    assert getattr(said, "code", "") == "pool.unknown", said
