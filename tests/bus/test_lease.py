from __future__ import annotations

import time

import pytest

from mindsight.bus import Bus, Lease, Log, WorkQueue
from mindsight.bus.forget import forget_holder, forget_logs, mentions
from mindsight.bus.log import fence_key
from mindsight.errors import LeaseLost


def test_one_holder_at_a_time(bus: Bus, name: str) -> None:
    first = Lease.acquire(bus, name, "worker", ttl_s=30)
    assert first is not None
    assert Lease.acquire(bus, name, "worker", ttl_s=30) is None, "the same name is not the same holder"
    assert Lease.acquire(bus, name + "-other", "worker", ttl_s=30) is not None
    first.renew()
    first.release()
    second = Lease.acquire(bus, name, "worker", ttl_s=30)
    assert second is not None
    assert second.fence.token > first.fence.token


def test_a_holder_that_a_replica_had_not_heard_of_is_refused(bus: Bus, name: str) -> None:
    """A primary died right after the second holder took the lease; its replica knows the first only."""
    first = Lease.acquire(bus, name, "first", ttl_s=0.05)
    assert first is not None
    known = bus.command("GET", fence_key(name))
    time.sleep(0.1)
    unheard = Lease.acquire(bus, name, "unheard of", ttl_s=30)
    assert unheard is not None
    bus.command("SET", fence_key(name), known)
    bus.command("DEL", f"s:{{{name}}}:lease")
    time.sleep(0.005)  # no replica takes over within a millisecond
    third = Lease.acquire(bus, name, "third", ttl_s=30)
    assert third is not None
    assert first.fence.token < unheard.fence.token < third.fence.token
    log = Log(bus, name, "messages")
    for late in (first, unheard):
        with pytest.raises(LeaseLost):
            late.renew()
        with pytest.raises(LeaseLost):
            log.append("late", b"", fence=late.fence)
    log.append("takeover", b"", fence=third.fence)


def test_tokens_go_up_under_a_clock_that_goes_back(bus: Bus, name: str) -> None:
    ahead = round(1000 * time.time()) + 3_600_000
    bus.command("SET", fence_key(name), ahead)
    lease = Lease.acquire(bus, name, "worker", ttl_s=30)
    assert lease is not None
    assert lease.fence.token == ahead + 1


def test_a_zombie_is_refused_in_every_write(bus: Bus, name: str) -> None:
    log, queue = Log(bus, name, "messages"), WorkQueue(bus, name)
    zombie = Lease.acquire(bus, name, "zombie", ttl_s=0.05)
    assert zombie is not None
    queue.admit(zombie.fence)
    log.append("before", b"", fence=zombie.fence)
    queue.put("before", b"", fence=zombie.fence)
    time.sleep(0.1)  # paused for longer than its lease
    successor = Lease.acquire(bus, name, "successor", ttl_s=30)
    assert successor is not None
    queue.admit(successor.fence)
    log.append("takeover", b"", fence=successor.fence)
    with pytest.raises(LeaseLost):
        log.append("late", b"", fence=zombie.fence)
    with pytest.raises(LeaseLost):
        log.append("before", b"", fence=zombie.fence)  # even what it wrote itself
    with pytest.raises(LeaseLost):
        queue.put("late", b"", fence=zombie.fence)
    with pytest.raises(LeaseLost):
        queue.put("before", b"", fence=zombie.fence)
    with pytest.raises(LeaseLost):
        queue.admit(zombie.fence)
    with pytest.raises(LeaseLost):
        zombie.renew()
    zombie.release()
    successor.renew()
    queue.put("job", b"", fence=successor.fence)
    assert [entry.key for entry in log.read()] == ["before", "takeover"]
    assert queue.were_put(["before", "late", "job"]) == [True, False, True]


def test_a_queue_takes_jobs_from_holders_that_it_admitted(bus: Bus, name: str) -> None:
    queue = WorkQueue(bus, name)
    zombie = Lease.acquire(bus, name, "zombie", ttl_s=0.05)
    assert zombie is not None
    with pytest.raises(LeaseLost):
        queue.put("early", b"", fence=zombie.fence)
    queue.admit(zombie.fence)
    time.sleep(0.1)
    successor = Lease.acquire(bus, name, "successor", ttl_s=30)
    assert successor is not None
    queue.put("before the successor looks", b"", fence=zombie.fence)
    queue.admit(successor.fence)
    queue.admit(successor.fence)
    with pytest.raises(LeaseLost):
        queue.put("after", b"", fence=zombie.fence)
    assert len(queue) == 1
    assert queue.were_put(["before the successor looks"]) == [True], "the successor finds it, and adds it no more"


def test_nothing_is_queued_for_a_session_that_is_done(bus: Bus, name: str) -> None:
    """A holder that was paused before it was admitted wakes when the session is sealed, or erased."""
    queue = WorkQueue(bus, name)
    paused, last = (Lease.acquire(bus, name, "worker", ttl_s=30, is_gone=lambda _: True) for _ in range(2))
    assert paused is not None
    assert last is not None
    queue.admit(last.fence)
    forget_holder(bus, name, name)
    for late in (paused, last):
        with pytest.raises(LeaseLost):
            queue.put("late", b"", fence=late.fence)
    with pytest.raises(LeaseLost):
        queue.admit(paused.fence)
    forget_holder(bus, name, name)
    forget_logs(bus, name)
    for late in (paused, last):
        with pytest.raises(LeaseLost):
            queue.admit(late.fence)
        with pytest.raises(LeaseLost):
            queue.put("late", b"", fence=late.fence)
    assert len(queue) == 0
    assert mentions(bus, lambda value: f"fence:{name}".encode() in value) == []


def test_a_lease_that_ran_out_is_taken_up_again_if_no_other_worker_took_it(bus: Bus, name: str) -> None:
    lease = Lease.acquire(bus, name, "paused", ttl_s=0.05)
    assert lease is not None
    time.sleep(0.1)
    lease.renew()
    Log(bus, name, "messages").append("still mine", b"", fence=lease.fence)


def test_the_lease_of_a_holder_that_is_gone_is_taken_over(bus: Bus, name: str) -> None:
    gone = Lease.acquire(bus, name, "gone", ttl_s=30)
    assert gone is not None
    assert Lease.acquire(bus, name, "worker", 30, is_gone=lambda holder: holder != "gone") is None
    successor = Lease.acquire(bus, name, "worker", 30, is_gone=lambda holder: holder == "gone")
    assert successor is not None
    with pytest.raises(LeaseLost):
        gone.renew()
    successor.renew()


def test_who_holds_leases_is_asked_in_one_go(bus: Bus, name: str) -> None:
    sessions = [f"{name}-{k}" for k in range(3)]
    for session, holder in zip(sessions, ("machine/1/2", "a name with spaces"), strict=False):
        assert Lease.acquire(bus, session, holder, 60.0) is not None
    assert Lease.holders(bus, sessions) == ["machine/1/2", "a name with spaces", None]
    assert Lease.holders(bus, []) == []
