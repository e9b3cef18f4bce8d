from __future__ import annotations

import threading
import time

import pytest

from mindsight.bus import MAX_DELIVERIES, Bus, WorkQueue
from mindsight.errors import Diverged


def test_jobs_put_before_the_first_worker_came_are_done_once(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    assert not queue.put("a", b"1").duplicate
    assert queue.put("a", b"1").duplicate
    with pytest.raises(Diverged):
        queue.put("a", b"2")
    job = queue.take("worker", 0.1)
    assert job is not None
    assert (job.key, job.payload, job.deliveries) == ("a", b"1", 1)
    job.ack()
    assert queue.put("a", b"1").duplicate, "done long ago, and still not to be done again"
    assert queue.take("worker", 0.01) is None
    assert len(queue) == 0


def test_a_worker_that_comes_back_gets_its_own_unfinished_job_first(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    for key in "ab":
        queue.put(key, b"")
    taken = queue.take("worker", 0.1)
    again = queue.take("worker", 0.1)
    assert taken is not None
    assert again is not None
    assert (taken.key, again.key, again.deliveries) == ("a", "a", 2)
    other = queue.take("another", 0.1)
    assert other is not None
    assert other.key == "b", "what is in one worker's hands is not given to another"


def test_a_job_left_lying_is_taken_over(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name, stale_s=0.05)
    queue.put("a", b"payload")
    assert queue.take("killed", 0.1) is not None
    time.sleep(0.1)
    job = queue.take("successor", 0.1)
    assert job is not None
    assert (job.key, job.payload) == ("a", b"payload")
    job.ack()
    assert queue.take("killed", 0.01) is None


def test_a_job_that_kills_its_workers_ends_among_the_dead_and_frees_the_way(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    for key in ("poison", "good"):
        queue.put(key, key.encode())
    seen = [job.key for job in (queue.take("worker", 0.05) for _ in range(MAX_DELIVERIES + 1)) if job]
    assert seen == ["poison"] * MAX_DELIVERIES + ["good"]
    (dead,) = queue.dead()
    assert (dead.key, dead.payload) == ("poison", b"poison")
    assert "never acknowledged" in dead.reason
    assert len(queue) == 1


def test_a_rejected_job_gives_the_reason(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    queue.put("a", b"")
    job = queue.take("worker", 0.1)
    assert job is not None
    job.reject("its bundle has another number of voxels")
    assert [(dead.key, dead.reason) for dead in queue.dead()] == [("a", "its bundle has another number of voxels")]
    assert queue.take("worker", 0.01) is None


def test_workers_share_the_jobs_and_do_each_once(bus_url: str, name: str) -> None:
    bus = Bus(bus_url)
    done: list[str] = []

    def work(consumer: str) -> None:
        queue = WorkQueue(Bus(bus_url), name)
        while job := queue.take(consumer, 0.5):
            done.append(job.key)
            job.ack()

    workers = [threading.Thread(target=work, args=(f"worker-{i}",)) for i in range(3)]
    for worker in workers:
        worker.start()
    for i in range(60):
        WorkQueue(bus, name).put(str(i), b"")
    for worker in workers:
        worker.join(30)
    assert sorted(done, key=int) == [str(i) for i in range(60)]
