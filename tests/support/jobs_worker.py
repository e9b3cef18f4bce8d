"""A jobs worker in this process, and waiting for what its jobs come to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mindsight.journal.jobs import FINISHED, Jobs
from mindsight.protocol.jobs import JobRecord, Task
from support.house import House
from workers.jobs.worker import JobsWorker

DEADLINE_S = 60.0


@contextmanager
def working(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsWorker]:
    """A worker in this process; its jobs have processes of their own."""
    from mindsight.operations.supervisor import environment

    for name, value in environment(house.settings).items():
        monkeypatch.setenv(name, value)
    worker = JobsWorker(house.settings, house.bus, "test", threading.Event(), slots=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        thread.join(30.0)
    assert not thread.is_alive()


def create(house: House, task: Task, job: str) -> JobRecord:
    return Jobs(house.bus, time.time).create(JobRecord(job=job, task=task, created_t=time.time()))


def until(house: House, job: str, done: Callable[[JobRecord], bool], deadline_s: float = DEADLINE_S) -> JobRecord:
    jobs, until_s = Jobs(house.bus, time.time), time.monotonic() + deadline_s
    while time.monotonic() < until_s:
        record = jobs.get(job)
        if done(record):
            return record
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {job}: {jobs.get(job)}, {list(jobs.messages(job))[-1:]}")


def finished(record: JobRecord) -> bool:
    return record.state in FINISHED
