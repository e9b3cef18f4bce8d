"""Jobs in processes of their own: carried out, killed and gone on with, cancelled and resumed, refused."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mindsight.bus import MAX_DELIVERIES, Bus, Lease
from mindsight.errors import StorageFull
from mindsight.journal.jobs import Jobs
from mindsight.protocol.jobs import CalibrationTask, JobBegan, JobEnded, JobProgress, JobRecord, VersionMade
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.registry import Registry
from support.house import House
from support.jobs_worker import create, finished, until, working
from support.other_version import of_another_version
from support.two_sides import CONSENT, SidesRun, archived_session
from support.whole_service import child_of
from workers.jobs import worker as worker_module
from workers.jobs.desk import version_store
from workers.jobs.worker import JobsWorker


def test_a_bus_whose_disk_is_full_ends_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take every job's process with it, and a job whose process ended too often is given up."""
    stop, tries = threading.Event(), []
    worker = JobsWorker(house.settings, house.bus, "test", stop, slots=1)

    def take(consumer: str, *, first: bool) -> None:
        tries.append(consumer)
        if len(tries) == 1:
            raise StorageFull("the bus cannot write", code="bus.full")
        stop.set()

    monkeypatch.setattr(worker, "_next", take)
    worker.run()
    assert len(tries) == 2


def begin_of(house: House, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[str], object]) -> JobsWorker:
    """A worker that is held up between its look at a job and the job's begin."""
    acquire = worker_module.Lease.acquire

    def slowly(bus: Bus, name: str, *more: Any) -> Lease | None:
        meanwhile(name.removeprefix("job:"))
        return acquire(bus, name, *more)

    monkeypatch.setattr(worker_module.Lease, "acquire", slowly)
    return JobsWorker(house.settings, house.bus, "test", threading.Event(), slots=1)


@pytest.mark.parametrize("what", ["cancelled", "erased"])
def test_a_job_that_is_cancelled_or_erased_as_it_begins_ends_no_worker(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It would take every other job's process with it."""
    jobs = Jobs(house.bus, time.time)
    record = create(house, CalibrationTask(subject="sub-a", sessions=("ses-a",)), "job-a")
    worker = begin_of(house, monkeypatch, jobs.cancel if what == "cancelled" else lambda _: jobs.forget(record))
    for _ in range(2):
        worker._next("test-0", first=False)
    assert len(jobs.queue) == 0
    assert [job.state for job in jobs.list()] == (["cancelled"] if what == "cancelled" else [])


def test_a_job_that_is_done_as_it_is_cancelled_ends_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(house.bus, time.time)
    record = create(house, CalibrationTask(subject="sub-a", sessions=("ses-a",)), "job-a")
    worker = JobsWorker(house.settings, house.bus, "test", threading.Event(), slots=1)
    monkeypatch.setattr(worker, "_start", lambda *_: None)
    monkeypatch.setattr(worker, "_follow", lambda *_: "cancelled")
    monkeypatch.setattr(worker_module, "_end", lambda _: jobs.finish(record, "done", "made"))
    for _ in range(2):
        worker._next("test-0", first=False)
    assert (len(jobs.queue), jobs.get("job-a").state) == (0, "done")


def test_a_machine_that_has_no_process_left_ends_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RENEW_S", 0.01)
    jobs = Jobs(house.bus, time.time)
    create(house, CalibrationTask(subject="sub-a", sessions=("ses-a",)), "job-a")
    worker = JobsWorker(house.settings, house.bus, "test", threading.Event(), slots=1)
    tries: list[object] = []

    def start(*given: object) -> None:
        tries.append(given)
        raise BlockingIOError(errno.EAGAIN, "no process")

    monkeypatch.setattr(worker, "_start", start)
    for _ in range(MAX_DELIVERIES + 1):
        worker._next("test-0", first=False)
    worker.tidy()
    assert (len(tries), jobs.get("job-a").state) == (MAX_DELIVERIES, "failed")


def test_a_job_of_another_version_is_left_to_it_and_the_others_are_done(house: House) -> None:
    jobs = Jobs(house.bus, time.time)
    for job in ("job-a", "job-b"):
        create(house, CalibrationTask(subject=f"sub-{job}", sessions=("ses-a",)), job)
    of_another_version(house.bus, "jobs", "job-a")
    jobs.cancel("job-b")
    worker = JobsWorker(house.settings, house.bus, "test", threading.Event(), slots=1)
    for _ in range(2 * MAX_DELIVERIES):
        worker._next("test-0", first=False)
    worker.tidy()
    (waiting,) = jobs.queue.waiting("of another version")
    assert (waiting.payload, jobs.queue.dead()) == (b"job-a", [])


@pytest.mark.slow
def test_a_calibration_that_is_killed_cancelled_and_resumed_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RENEW_S", 0.2)
    subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
    archived_session(house, subject, "ses-a", [SidesRun(1), SidesRun(2)])
    jobs = Jobs(house.bus, time.time)
    with working(house, monkeypatch):
        create(house, CalibrationTask(subject=subject, sessions=("ses-a",)), "job-a")

        def reads(_: JobRecord) -> bool:
            return any(isinstance(message, JobProgress) for message in jobs.messages("job-a"))

        until(house, "job-a", reads)
        pid = child_of(os.getpid(), "job-a")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(house, "job-a", lambda _: sum(isinstance(m, JobBegan) for m in jobs.messages("job-a")) == 2)
        jobs.cancel("job-a")
        assert until(house, "job-a", finished).state == "cancelled"
        assert child_of(os.getpid(), "job-a") is None
        jobs.resume("job-a")
        assert until(house, "job-a", finished).state == "done"
        messages = list(jobs.messages("job-a"))
        assert [m.outcome for m in messages if isinstance(m, JobEnded)] == ["cancelled", "done"]
        (made,) = [message for message in messages if isinstance(message, VersionMade)]
        assert (made.version, made.active) == (1, True)
        assert any(isinstance(m, JobProgress) and m.step == "betas" and m.left_s is not None for m in messages)
        assert not (house.settings.jobs_dir / "job-a").exists()
        bundle = Bundle.load(house.settings.bundles_dir / made.bundle)
        print(f"held out: {bundle.accuracy}")
        assert bundle.accuracy is not None
        assert (bundle.accuracy.n, bundle.digest) == (24, made.digest)
        assert bundle.accuracy.value >= 0.8
        assert version_store(house.settings).read(subject).versions[0].job == "job-a"


@pytest.mark.slow
def test_a_worker_that_stops_leaves_its_job_to_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
    house.open("ses-a")  # nothing comes: a live calibration waits
    jobs = Jobs(house.bus, time.time)
    with working(house, monkeypatch):
        create(house, CalibrationTask(subject=subject, live="ses-a"), "job-a")
        until(house, "job-a", lambda record: record.state == "running")
        jobs.cancel("job-a")
        assert until(house, "job-a", finished).state == "cancelled"
        assert child_of(os.getpid(), "job-a") is None
        jobs.resume("job-a")
        until(house, "job-a", lambda record: record.state == "running")
    assert jobs.get("job-a").state == "running", "a worker that stops leaves its job to the next"
    monkeypatch.setitem(worker_module.DEADLINES_S, "calibration", 0.0)
    with working(house, monkeypatch):
        assert until(house, "job-a", finished).state == "failed"
    *_, ended = jobs.messages("job-a")
    assert isinstance(ended, JobEnded)
    assert ended.code == "job.deadline"
