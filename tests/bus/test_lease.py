from __future__ import annotations

import time

import pytest

from mindsight.bus import Bus, Lease, Log, WorkQueue
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


def test_a_zombie_is_refused_in_every_write(bus: Bus, name: str) -> None:
    log, queue = Log(bus, name, "messages"), WorkQueue(bus, name)
    zombie = Lease.acquire(bus, name, "zombie", ttl_s=0.05)
    assert zombie is not None
    log.append("before", b"", fence=zombie.fence)
    time.sleep(0.1)  # paused for longer than its lease
    successor = Lease.acquire(bus, name, "successor", ttl_s=30)
    assert successor is not None
    log.append("takeover", b"", fence=successor.fence)
    with pytest.raises(LeaseLost):
        log.append("late", b"", fence=zombie.fence)
    with pytest.raises(LeaseLost):
        log.append("before", b"", fence=zombie.fence)  # even what it wrote itself
    with pytest.raises(LeaseLost):
        queue.put("late", b"", fence=zombie.fence)
    with pytest.raises(LeaseLost):
        zombie.renew()
    zombie.release()
    successor.renew()
    queue.put("job", b"", fence=successor.fence)
    assert [entry.key for entry in log.read()] == ["before", "takeover"]
    assert len(queue) == 1


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
