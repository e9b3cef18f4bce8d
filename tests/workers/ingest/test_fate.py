"""Sessions do not share fate: an input that cannot be processed is skipped, a process that ends takes one session."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mindsight.bus import Lease, Log, Quarantine, WorkQueue
from mindsight.errors import LeaseLost, StorageFull
from mindsight.protocol import BetaReady, Message, VolumeProcessed, Warned
from mindsight.simulator.experiment import RunPlan
from mindsight.volume import Volume
from support.house import House
from workers.ingest.runner import SessionRunner
from workers.ingest.worker import MAX_DEATHS, Archiving, IngestWorker


@pytest.fixture(scope="module")
def house(lasting_house: House) -> House:
    return lasting_house


def n_final(messages: list[Message]) -> int:
    return sum(isinstance(m, BetaReady) and m.stage == "final" for m in messages)


def digests(messages: list[Message]) -> list[tuple[int, str, str]]:
    return [(m.trial, m.stage, m.beta) for m in messages if isinstance(m, BetaReady)]


def descendants(pid: int) -> list[int]:
    children = [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def test_an_unreadable_input_is_skipped_once_for_good_and_nothing_else_suffers(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    clean, spoilt = house.open("ses-clean"), house.open("ses-spoilt")
    worker = house.running("workers.ingest")
    for recorder in (clean, spoilt):
        house.declare(recorder, plan)
    for volume in volumes:
        house.put(clean, volume)
        house.put(spoilt, volume)
        if volume.index == 4:
            Log(house.bus, "ses-spoilt", "input").append("a-later-version", b'{"v":2,"type":"volume"}')
    for recorder in (clean, spoilt):
        recorder.end_run(1)
    undisturbed = house.wait("ses-clean", lambda messages: n_final(messages) >= len(plan.shown))
    disturbed = house.wait("ses-spoilt", lambda messages: n_final(messages) >= len(plan.shown))
    assert digests(disturbed) == digests(undisturbed)
    assert [m.index for m in disturbed if isinstance(m, VolumeProcessed)] == list(range(len(volumes)))
    (skipped,) = (m for m in disturbed if isinstance(m, Warned) and m.code == "input.quarantined")
    assert "a-later-version" in skipped.text
    assert skipped.level == "error"
    assert list(Quarantine(house.bus, "ses-spoilt").read().values()) == ["ValidationError"]
    assert not Quarantine(house.bus, "ses-clean").read()
    assert worker.poll() is None


def test_a_session_whose_process_is_killed_goes_on_beside_the_others(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    names = ("ses-one", "ses-two")
    recorders = [house.open(name) for name in names]
    worker = house.running("workers.ingest")
    for recorder in recorders:
        house.declare(recorder, plan)
    rest = iter(volumes)
    for volume in (next(rest) for _ in range(6)):
        for recorder in recorders:
            house.put(recorder, volume)
    for name in names:
        house.wait(name, lambda messages: sum(isinstance(m, VolumeProcessed) for m in messages) == 6)
    # the oldest child is the server that forks; its children are the sessions
    (server,) = {pid for pid in descendants(worker.pid) if descendants(pid)}
    os.kill(descendants(server)[-1], signal.SIGKILL)
    for volume in rest:
        for recorder in recorders:
            house.put(recorder, volume)
    for recorder in recorders:
        recorder.end_run(1)
    one, two = (house.wait(name, lambda messages: n_final(messages) >= len(plan.shown)) for name in names)
    assert digests(one) == digests(two)
    assert Counter(m.index for m in one if isinstance(m, VolumeProcessed)) == Counter(range(len(volumes)))
    assert not [m for m in [*one, *two] if isinstance(m, Warned) and m.level == "error"]
    assert worker.poll() is None


def test_the_lease_of_a_killed_worker_need_not_run_out(house: House, plan: RunPlan, volumes: list[Volume]) -> None:
    recorder = house.open("ses-soon")
    house.declare(recorder, plan)
    worker = house.running("workers.ingest")
    house.put(recorder, volumes[0])
    house.wait("ses-soon", lambda messages: any(isinstance(m, VolumeProcessed) for m in messages))
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(10)
    remaining_ms = int(house.bus.command("PTTL", "s:{ses-soon}:lease"))
    successor = house.start("workers.ingest")
    house.put(recorder, volumes[1])
    house.wait("ses-soon", lambda messages: sum(isinstance(m, VolumeProcessed) for m in messages) == 2)
    assert remaining_ms > 0, "the lease was still held"
    assert successor.poll() is None


def test_quarantine_is_fenced_and_keeps_the_first_reason(house: House) -> None:
    zombie = Lease.acquire(house.bus, "ses-fenced", "zombie", ttl_s=0.05)
    assert zombie is not None
    quarantine = Quarantine(house.bus, "ses-fenced")
    quarantine.add(7, "first", zombie.fence)
    quarantine.add(7, "second", zombie.fence)
    time.sleep(0.1)
    assert Lease.acquire(house.bus, "ses-fenced", "successor", ttl_s=30) is not None
    with pytest.raises(LeaseLost):
        quarantine.add(8, "late", zombie.fence)
    assert quarantine.read() == {7: "first"}


def test_an_input_that_ends_its_process_three_times_is_put_in_quarantine(house: House) -> None:
    lease = Lease.acquire(house.bus, "ses-deadly", "test", ttl_s=30)
    assert lease is not None
    worker = IngestWorker(house.settings, house.bus, threading.Event(), multiprocessing.get_context("forkserver"))
    for _ in range(MAX_DEATHS):
        assert not Quarantine(house.bus, "ses-deadly").read()
        worker._died("ses-deadly", lease, 5)
    assert list(Quarantine(house.bus, "ses-deadly").read()) == [5]


def test_a_volume_in_quarantine_whose_run_never_opened_does_not_stop_the_session(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    lease = Lease.acquire(house.bus, "ses-unopened", "test", ttl_s=30)  # before a worker of another test can take it
    assert lease is not None
    recorder = house.open("ses-unopened")
    house.declare(recorder, plan)
    house.put(recorder, volumes[0])
    recorder.close()
    entries = Log(house.bus, "ses-unopened", "input").read()
    for entry in entries:
        if entry.key in ("run-1", "volume-1-0"):
            Quarantine(house.bus, "ses-unopened").add(entry.seq, "test", lease.fence)
    given = (lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    runner = SessionRunner.resume("ses-unopened", *given)
    for entry in entries:
        runner.take(entry)
    assert runner.closed
    warned = [m for m in house.messages("ses-unopened") if isinstance(m, Warned)]
    assert sum(m.code == "input.quarantined" for m in warned) == 2


def test_a_bus_whose_disk_is_full_ends_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take every session's process with it, and need seconds to start again."""
    stop, tries = threading.Event(), []
    worker = IngestWorker(house.settings, house.bus, stop, multiprocessing.get_context("forkserver"))

    def take(name: str) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise StorageFull("the bus cannot write", code="bus.full")
        stop.set()

    monkeypatch.setattr(worker, "_take_sessions", take)
    worker.run()
    assert len(tries) == 2


def test_an_archivist_that_has_ended_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each archived session would leave an ended process behind for as long as the worker runs."""
    worker = IngestWorker(house.settings, house.bus, threading.Event(), multiprocessing.get_context("forkserver"))
    for session, code in (("ses-archived", 0), ("ses-failed", 1)):
        lease = Lease.acquire(house.bus, session, "one", 60.0)
        assert lease is not None
        archivist = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"])
        os.waitid(os.P_PID, archivist.pid, os.WEXITED | os.WNOWAIT)
        worker._archiving[session] = Archiving(lease, archivist)
    worker._reap()
    assert Lease.acquire(house.bus, "ses-archived", "another", 60.0) is not None
    assert set(worker._archiving) == {"ses-failed"}, "what was not archived is tried again, later"
    assert Lease.acquire(house.bus, "ses-failed", "another", 60.0) is None, "by this worker alone"
    failed = worker._archiving["ses-failed"]
    assert failed.again_s is not None
    assert failed.again_s > time.monotonic()
    failed.again_s = 0.0
    again: list[str] = []
    monkeypatch.setattr(worker, "_archive", lambda session, lease: again.append(session))
    worker._reap()
    assert again == ["ses-failed"]
    assert worker._archiving == {}


@pytest.mark.parametrize("what", ["process", "archivist"])
def test_a_machine_that_has_no_process_left_ends_no_worker(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """It would take every session's process with it."""
    session = f"ses-no-{what}"
    house.open(session)
    worker = IngestWorker(house.settings, house.bus, threading.Event(), multiprocessing.get_context("forkserver"))
    lease = Lease.acquire(house.bus, session, "one", 60.0)
    assert lease is not None

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    if what == "archivist":
        monkeypatch.setattr("workers.ingest.worker.subprocess.Popen", refuse)
        worker._archive(session, lease)
    else:
        monkeypatch.setattr(worker.processes.Process, "start", refuse)
        worker._start(session, lease)
    said = f"session {session} has no process, and waits for one: {os.strerror(errno.EAGAIN)}"
    assert said in capsys.readouterr().err
    assert (worker._held, worker._archiving, set(worker._not_before_s)) == ({}, {}, {session})
    assert Lease.acquire(house.bus, session, "another", 60.0) is not None, "a worker of another machine may lead it"
