"""Every pair of a job's state and an event, driven through a real bus and compared with the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

import pytest

from mindsight.bus import Bus, Fence, Lease
from mindsight.errors import Conflict, LeaseLost, NotFound
from mindsight.journal.jobs import FINISHED, JOB, JobEvent, Jobs, log_name
from mindsight.protocol.jobs import CalibrationTask, ErasureTask, JobEnded, JobRecord, PoolImage, PoolTask, State
from support.other_version import of_another_version

WAYS: dict[State, list[JobEvent]] = {
    "queued": [],
    "running": ["begin"],
    "cancelling": ["begin", "cancel"],
    "done": ["begin", "done"],
    "failed": ["begin", "fail"],
    "cancelled": ["begin", "cancel", "stop"],
}


def record_of(job: str, subject: str | None = None) -> JobRecord:
    task = CalibrationTask(subject=subject or f"sub-{job}", sessions=("ses-1",))
    return JobRecord(job=job, task=task, created_t=time.time())


def apply(jobs: Jobs, record: JobRecord, event: JobEvent, fence: Fence) -> None:
    events: dict[JobEvent, Callable[[], object]] = {
        "begin": lambda: jobs.begin(record, fence),
        "cancel": lambda: jobs.cancel(record.job),
        "done": lambda: jobs.finish(record, "done", "made", fence=fence),
        "fail": lambda: jobs.finish(record, "failed", "why", "x.y", fence),
        "stop": lambda: jobs.finish(record, "cancelled", "stopped", fence=fence),
        "resume": lambda: jobs.resume(record.job),
    }
    events[event]()


@pytest.mark.parametrize("state", get_args(State))
def test_a_job_follows_its_table(bus: Bus, name: str, state: State) -> None:
    for event in get_args(JobEvent):
        jobs, record = Jobs(bus, time.time), record_of(f"{name}-{event}")
        jobs.create(record)
        lease = Lease.acquire(bus, log_name(record.job), "test", 30.0)
        assert lease is not None
        for step in WAYS[state]:
            apply(jobs, record, step, lease.fence)
        assert jobs.get(record.job).state == state
        after = JOB[state].get(event)
        if after is None:
            with pytest.raises(Conflict):
                apply(jobs, record, event, lease.fence)
        else:
            apply(jobs, record, event, lease.fence)
        now = jobs.get(record.job)
        assert now.state == (after or state)
        assert (now in jobs.unfinished()) is (now.state not in FINISHED)


def test_every_state_is_in_the_table_and_only_resuming_leaves_a_finished_one() -> None:
    assert set(JOB) == set(get_args(State))
    for state in FINISHED:
        assert {event for event, after in JOB[state].items() if after != state} <= {"resume"}


def test_a_second_calibration_of_a_subject_is_refused_until_the_first_is_finished(bus: Bus, name: str) -> None:
    jobs = Jobs(bus, time.time)
    first, second = record_of(f"{name}-1", f"sub-{name}"), record_of(f"{name}-2", f"sub-{name}")
    assert jobs.create(first) == jobs.create(first), "a repeat changes nothing"
    with pytest.raises(Conflict, match=f"{name}-1 is at work") as refused:
        jobs.create(second)
    assert (refused.value.code, refused.value.details) == ("job.busy", {"job": f"{name}-1"})
    erasure = JobRecord(job=f"{name}-3", task=ErasureTask(subject=f"sub-{name}"), created_t=1.0)
    with pytest.raises(Conflict):
        jobs.create(erasure)
    assert jobs.cancel(first.job).state == "cancelled"
    assert isinstance(list(jobs.messages(first.job))[-1], JobEnded)
    assert jobs.create(second).state == "queued"
    with pytest.raises(Conflict) as held:
        jobs.resume(first.job)
    assert held.value.code == "job.busy"
    jobs.cancel(second.job)
    assert (jobs.resume(first.job).state, jobs.get(first.job).attempt) == ("queued", 2)
    with pytest.raises(Conflict) as other:
        jobs.create(JobRecord(job=first.job, task=erasure.task, created_t=1.0))
    assert other.value.code == "job.exists"


def test_a_worker_that_was_replaced_changes_nothing(bus: Bus, name: str) -> None:
    jobs, record = Jobs(bus, time.time), record_of(name)
    jobs.create(record)
    old = Lease.acquire(bus, log_name(name), "old", 30.0)
    assert old is not None
    jobs.begin(record, old.fence)
    new = Lease.acquire(bus, log_name(name), "new", 30.0, lambda _: True)
    assert new is not None
    with pytest.raises(LeaseLost):
        jobs.finish(record, "done", "made", fence=old.fence)
    assert jobs.get(name).state == "running"
    assert list(jobs.messages(name)) == []


def test_what_is_no_job_is_not_found(bus: Bus) -> None:
    for ask in (Jobs(bus, time.time).get, Jobs(bus, time.time).cancel, Jobs(bus, time.time).resume):
        with pytest.raises(NotFound):
            ask("job-none")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (CalibrationTask, {"subject": "sub-a"}),
        (CalibrationTask, {"subject": "sub-a", "sessions": ("a",), "live": "b"}),
        (CalibrationTask, {"subject": "sub-a", "sessions": ("a", "a")}),
        (PoolTask, {"pool": "p"}),
        (PoolTask, {"pool": "../p", "folder": "f"}),
        (PoolTask, {"pool": "p", "folder": "../f"}),
        (PoolTask, {"pool": "p", "images": (PoolImage(id="a", image="0" * 64),) * 2}),
    ],
)
def test_a_task_that_says_too_little_or_too_much_is_refused(kind: type, given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|pattern"):
        kind(**given)


def test_a_job_of_another_version_keeps_nobody_from_the_others(bus: Bus, name: str) -> None:
    jobs = Jobs(bus, time.time)
    for job in (f"{name}-a", f"{name}-b"):
        jobs.create(record_of(job))
    of_another_version(bus, "jobs", f"{name}-b")
    for found in (jobs.list(), jobs.unfinished()):
        names = {record.job for record in found}
        assert (f"{name}-a" in names, f"{name}-b" in names) == (True, False)
    with pytest.raises(Conflict, match="install that version") as unreadable:
        jobs.get(f"{name}-b")
    assert unreadable.value.code == "job.unreadable"
