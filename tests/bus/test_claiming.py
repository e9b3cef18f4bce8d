"""Jobs that a worker chooses for itself: by any one worker, whatever happens to it, as those that it is given."""

from __future__ import annotations

import threading
import time

import pytest

from mindsight.bus import MAX_DELIVERIES, Bus, Job, WorkQueue


def claim(queue: WorkQueue, key: str, consumer: str) -> Job | None:
    """What waits under this key; fails if nothing does."""
    (waiting,) = (one for one in queue.waiting(consumer) if one.key == key)
    return queue.claim(waiting, consumer)


def keys(queue: WorkQueue, consumer: str) -> list[str]:
    return [one.key for one in queue.waiting(consumer)]


def test_any_job_may_be_claimed_and_by_one_worker_only(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    assert queue.waiting("worker") == []
    for key in "abc":
        queue.put(key, key.encode())
    seen = queue.waiting("another")
    job = claim(queue, "b", "worker")
    assert job is not None
    assert (job.key, job.payload, job.deliveries) == ("b", b"b", 1)
    assert [one.key for one in seen] == ["c", "b", "a"]
    assert keys(queue, "another") == ["c", "a"]
    assert queue.claim(seen[1], "another") is None, "another was faster"
    job.ack()
    assert queue.claim(seen[1], "another") is None, "it is done"
    assert (len(queue), keys(queue, "worker")) == (2, ["c", "a"])


def test_what_a_worker_failed_on_waits_for_it_and_what_is_left_lying_for_all(bus: Bus, name: str) -> None:
    queue, patient = WorkQueue(bus, name, stale_s=0.05), WorkQueue(bus, name)
    queue.put("a", b"payload")
    assert claim(queue, "a", "worker") is not None
    assert keys(patient, "another") == []
    again = claim(patient, "a", "worker")
    assert again is not None
    assert again.deliveries == 2
    time.sleep(0.1)
    taken_over = claim(queue, "a", "another")
    assert taken_over is not None
    assert (taken_over.payload, taken_over.deliveries) == (b"payload", 3)


def test_a_job_that_kills_its_workers_ends_among_the_dead(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    queue.put("poison", b"poison")
    assert all(claim(queue, "poison", "worker") for _ in range(MAX_DELIVERIES))
    assert claim(queue, "poison", "worker") is None
    assert [job.key for job in queue.dead()] == ["poison"]
    assert len(queue) == 0


def test_a_job_that_is_released_waits_as_if_it_was_never_claimed(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    queue.put("a", b"")
    for consumer in ("worker", "another", "worker", "another", "worker"):
        job = claim(queue, "a", consumer)
        assert job is not None
        assert job.deliveries == 1
        job.release()


def test_what_was_put_is_known_though_it_is_done(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    queue.put("a", b"")
    job = claim(queue, "a", "worker")
    assert job is not None
    job.ack()
    assert queue.were_put(["a", "b"]) == [True, False]
    assert queue.were_put([]) == []


@pytest.mark.parametrize("put", [True, False])
def test_waiting_for_news_ends_with_the_next_job_or_in_time(bus: Bus, name: str, put: bool) -> None:
    queue = WorkQueue(bus, name)
    queue.put("a", b"")
    before = queue.last_put()
    assert before == 1
    timer = threading.Timer(0.1, lambda: queue.put("b", b""))
    if put:
        timer.start()
    began_s = time.monotonic()
    queue.await_new(before, 0.4)
    took_s = time.monotonic() - began_s
    assert (0.05 < took_s < 0.35) if put else took_s >= 0.35
    timer.join() if put else timer.cancel()


def test_jobs_are_refused_in_any_order(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    for key in "abc":
        queue.put(key, key.encode())
    for waiting in queue.waiting("worker"):  # the last that was put first
        job = queue.claim(waiting, "worker")
        assert job is not None
        job.reject("no good")
        job.reject("no good")
    assert [dead.key for dead in queue.dead()] == ["c", "b", "a"]
    assert len(queue) == 0
