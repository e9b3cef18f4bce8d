"""Which reconstruction comes next: of the freshest trial the newest stage; what it overtook is marked, never lost."""

from __future__ import annotations

import itertools
import random

import pytest

from mindsight.bus import WorkQueue
from mindsight.protocol.work import BetaWork, dump_work
from mindsight.stages import STAGES, Stage
from support.house import House
from workers.inference.schedule import choose, in_order

_names = itertools.count()


def work(trial: int, stage: Stage = "fast", *, run: int = 1, session: str = "a", logged_t: float = 0.0) -> BetaWork:
    return BetaWork(session=session, run=run, trial=trial, stage=stage, beta="0" * 64, logged_t=logged_t)


@pytest.fixture
def queue(lasting_house: House) -> WorkQueue:
    return WorkQueue(lasting_house.bus, f"pictures-{next(_names)}", stale_s=30.0)


def put(queue: WorkQueue, *works: BetaWork) -> None:
    for one in works:
        queue.put(one.key, dump_work(one))


def all_of(queue: WorkQueue, consumer: str = "worker") -> list[tuple[int, Stage, bool]]:
    """Trial, stage and whether it was overtaken, until nothing waits."""
    done = []
    while chosen := choose(queue, consumer, 0.01):
        done.append((chosen.work.trial, chosen.work.stage, chosen.is_overtaken))
        chosen.job.ack()
    return done


def test_a_session_s_last_trial_comes_first_whatever_order_the_jobs_came_in() -> None:
    works = [work(trial, stage, run=run) for run in (1, 2) for trial in (1, 2, 3) for stage in STAGES]
    expected = [work(t, stage, run=run) for run in (2, 1) for t in (3, 2, 1) for stage in STAGES]
    for seed in range(5):
        random.Random(seed).shuffle(works)
        assert in_order(works) == expected


def test_between_sessions_the_beta_that_was_logged_last_decides() -> None:
    old, new = [work(9, logged_t=1.0)], [work(2, session="b", logged_t=3.0), work(1, session="b", logged_t=0.5)]
    assert in_order(old + new) == [new[0], old[0], new[1]]


def test_waiting_stages_are_coalesced_into_the_newest(queue: WorkQueue) -> None:
    put(queue, work(1), work(1, "revised"), work(2), work(1, "final"), work(2, "revised"))
    assert all_of(queue) == [
        (2, "fast", True), (2, "revised", False), (1, "fast", True), (1, "revised", True), (1, "final", False),
    ]  # fmt: skip
    assert len(queue) == 0


def test_a_stage_that_comes_alone_is_drawn(queue: WorkQueue) -> None:
    for stage in STAGES:
        put(queue, work(1, stage))
        assert all_of(queue) == [(1, stage, False)]


def test_a_fresh_trial_goes_before_those_that_wait(queue: WorkQueue) -> None:
    put(queue, *(work(trial) for trial in (1, 2, 3)))
    first = choose(queue, "worker", 0.01)
    assert first is not None
    first.job.ack()
    put(queue, work(4))
    assert [trial for trial, *_ in all_of(queue)] == [4, 2, 1]
    assert first.work.trial == 3


def test_two_workers_share_the_jobs_and_what_one_leaves_lying_is_marked_by_the_other(lasting_house: House) -> None:
    queue = WorkQueue(lasting_house.bus, f"pictures-{next(_names)}", stale_s=0.2)
    put(queue, work(1))
    lost = choose(queue, "killed", 0.01)
    assert lost is not None
    assert not lost.is_overtaken
    put(queue, work(1, "revised"))
    assert all_of(queue, "other") == [(1, "revised", False)]
    queue.await_new(queue.last_put(), 0.3)
    assert all_of(queue, "other") == [(1, "fast", True)], "a newer one was drawn meanwhile"
    assert len(queue) == 0


def test_a_job_that_cannot_be_read_is_put_aside(queue: WorkQueue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.put("a-1-1-fast", b"{}")
    put(queue, work(2))
    assert all_of(queue) == [(2, "fast", False)]
    assert [job.key for job in queue.dead()] == ["a-1-1-fast"]
    assert "job a-1-1-fast" in capsys.readouterr().err


def test_without_jobs_it_waits_and_gives_none(queue: WorkQueue) -> None:
    assert choose(queue, "worker", 0.01) is None
