"""The ingest worker as a process: it is killed, paused and replaced, and the betas stay the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

from mindsight.protocol import BetaReady, Message, RunPlaced, VolumeProcessed, Warned
from mindsight.protocol.inputs import SkipVolume
from mindsight.simulator.experiment import RunPlan
from mindsight.volume import Volume
from support.house import House


@pytest.fixture(scope="module")
def house(lasting_house: House) -> House:
    return lasting_house


def betas(messages: list[Message]) -> dict[tuple[int, str], str]:
    found = [m for m in messages if isinstance(m, BetaReady)]
    digests = {(m.trial, m.stage): m.beta for m in found}
    assert len(digests) == len(found), "a beta was written twice"
    return digests


def processed(messages: list[Message]) -> list[int]:
    return [m.index for m in messages if isinstance(m, VolumeProcessed)]


def finals(n: int, placed: int = 0) -> Callable[[list[Message]], bool]:
    """Until n final betas and n registrations, which are sent in idle time, have arrived."""

    def done(messages: list[Message]) -> bool:
        n_final = sum(isinstance(m, BetaReady) and m.stage == "final" for m in messages)
        return n_final >= n and sum(isinstance(m, RunPlaced) for m in messages) >= placed

    return done


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [2, 6])
def test_killed_at_any_volume_it_loses_nothing_and_doubles_nothing(
    house: House, plan: RunPlan, volumes: list[Volume], n_kills: int
) -> None:
    of_quiet, of_hunted = f"ses-quiet{n_kills}", f"ses-hunted{n_kills}"
    quiet = house.open(of_quiet)
    worker = house.running("workers.ingest")
    house.declare(quiet, plan)
    for volume in volumes:
        house.put(quiet, volume)
    quiet.end_run(1)
    undisturbed = house.wait(of_quiet, finals(len(plan.shown), placed=1))

    hunted = house.open(of_hunted)
    house.declare(hunted, plan)
    rng = np.random.default_rng(4)
    kills = set(rng.choice(len(volumes) - 2, size=n_kills, replace=False).tolist())
    for volume in volumes:
        house.put(hunted, volume)
        if volume.index in kills:
            house.wait(of_hunted, lambda messages, at=volume.index: at - 1 in [-1, *processed(messages)])
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(10)
            worker = house.start("workers.ingest")
    hunted.end_run(1)
    disturbed = house.wait(of_hunted, finals(len(plan.shown), placed=1))

    assert betas(disturbed) == betas(undisturbed)
    assert processed(disturbed) == processed(undisturbed) == list(range(len(volumes)))
    assert not [m for m in disturbed if isinstance(m, Warned) and m.code == "log.diverged"]
    (before,), (after,) = ([m for m in messages if isinstance(m, RunPlaced)] for messages in (undisturbed, disturbed))
    assert (before.how, before.index, before.coverage) == ("subject", 0, 1.0)
    assert (after.reference_to_run, after.image) == (before.reference_to_run, before.image)
    assert house.blobs.get(before.image).startswith(b"\x89PNG")
    assert [m.id for m in disturbed] == list(range(1, len(disturbed) + 1))


def test_a_missing_volume_and_a_broken_one_flag_their_trials_and_the_run_goes_on(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    recorder = house.open("ses-gap")
    house.declare(recorder, plan)
    house.running("workers.ingest")
    gap = int(np.ceil(plan.shown[2].onset_s / plan.tr_s)) + 2
    for volume in volumes:
        if volume.index == gap:
            recorder.skip_volume(SkipVolume(t=time.time(), run=1, index=gap, reason="test"))
        else:
            house.put(recorder, volume)
    recorder.end_run(1)
    messages = house.wait("ses-gap", finals(len(plan.shown)))
    flagged = {m.trial for m in messages if isinstance(m, BetaReady) and m.stage == "final" and m.flagged}
    clean = {s.trial for s in plan.shown if not s.onset_s <= gap * plan.tr_s <= s.onset_s + 15.0}
    censored = {m.index for m in messages if isinstance(m, VolumeProcessed) and m.censored}
    assert 3 in flagged
    assert censored or not (flagged & clean)
    assert processed(messages) == [i for i in range(len(volumes)) if i != gap]


def test_a_paused_worker_that_wakes_up_late_writes_nothing(house: House, plan: RunPlan, volumes: list[Volume]) -> None:
    recorder = house.open("ses-paused")
    house.declare(recorder, plan)
    sleeper = house.running("workers.ingest")
    for volume in volumes[:5]:
        house.put(recorder, volume)
    house.wait("ses-paused", lambda messages: len(processed(messages)) == 5)
    os.kill(sleeper.pid, signal.SIGSTOP)
    successor = house.start("workers.ingest")
    for volume in volumes[5:]:
        house.put(recorder, volume)
    recorder.end_run(1)
    house.wait("ses-paused", finals(len(plan.shown)))
    os.kill(sleeper.pid, signal.SIGCONT)
    time.sleep(1.0)
    messages = house.messages("ses-paused")
    assert processed(messages) == list(range(len(volumes)))
    assert len(betas(messages)) >= len(plan.shown)
    assert successor.poll() is None
    assert sleeper.poll() is None  # it goes on, without this session


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [(int(child), int(parent)) for child, parent in map(str.split, listed.splitlines())]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents if its_parent == parent]
    return found[1:]


def runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() != "" and not state.startswith("Z")


def test_a_worker_that_is_killed_leaves_no_process_behind(house: House, plan: RunPlan, volumes: list[Volume]) -> None:
    """As the system kills for want of memory: the worker alone, not its group."""
    recorder = house.open("ses-orphan")
    house.declare(recorder, plan)
    worker = house.running("workers.ingest")
    house.put(recorder, volumes[0])
    house.wait("ses-orphan", lambda messages: processed(messages) == [0])
    of_worker = descendants(worker.pid)
    assert len(of_worker) >= 2, "the server of processes, and the session's"
    worker.kill()
    worker.wait(10)
    until = time.monotonic() + 30.0
    while any(map(runs, of_worker)):
        assert time.monotonic() < until, "still there after half a minute"
        time.sleep(0.1)
