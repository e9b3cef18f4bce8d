"""Which reconstruction is made next: the freshest trial's, and of its stages the newest.

Knows nothing of reconstructions. A stage that a newer one of its trial has overtaken is never reconstructed: its job is
handed out to be marked so, right before that of the newer stage, or by itself if another worker took that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from mindsight.bus import Job, WaitingJob, WorkQueue
from mindsight.protocol.work import BetaWork, RefinementWork, parse_work
from mindsight.stages import STAGES

Work = TypeVar("Work", BetaWork, RefinementWork)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A job that this worker holds.

    is_overtaken : a newer stage of the trial came first: mark it so, and do not reconstruct it
    """

    job: Job
    work: BetaWork
    is_overtaken: bool


def choose(queue: WorkQueue, consumer: str, block_s: float) -> Chosen | None:
    """Claim the next job; None if there was none for ``block_s``."""
    before = queue.last_put()
    waiting: dict[BetaWork, WaitingJob] = {}
    for one in queue.waiting(consumer):
        if work := read(one, parse_work):
            waiting[work] = one
        elif unreadable := queue.claim(one, consumer):
            put_aside(unreadable)
    for work in in_order(waiting):
        if job := queue.claim(waiting[work], consumer):
            return Chosen(job, work, any(queue.were_put(keys_of_newer(work))))
    queue.await_new(before, block_s)
    return None


def read(job: Job | WaitingJob, parse: Callable[[bytes], Work]) -> Work | None:
    """What a job asks for; None if it cannot be read."""
    try:
        return parse(job.payload)
    except ValidationError:
        return None


def put_aside(job: Job) -> None:
    """Move a job that cannot be read to the dead letters, or no worker would get past it."""
    print(f"inference: job {job.key} of the queue {job.queue.name} cannot be read", file=sys.stderr, flush=True)
    job.reject("it cannot be read")


def keys_of_newer(work: BetaWork) -> list[str]:
    """Of the same trial's jobs at later stages."""
    later = STAGES[STAGES.index(work.stage) + 1 :]
    return [work.model_copy(update={"stage": stage}).key for stage in later]


def in_order(waiting: Iterable[BetaWork]) -> list[BetaWork]:
    """Freshest trial first, a trial's stages from the earliest, so that those that are overtaken are marked first.

    The freshest trial of a session is the last that was shown. Between sessions the beta that was logged last decides.
    """
    sessions: dict[str, list[BetaWork]] = {}
    for work in waiting:
        sessions.setdefault(work.session, []).append(work)
    ordered: list[BetaWork] = []
    for of in sessions.values():
        of.sort(key=lambda work: (-work.run, -work.trial, STAGES.index(work.stage)))
    while sessions:
        name = max(sessions, key=lambda name: sessions[name][0].logged_t)
        ordered.append(sessions[name].pop(0))
        if not sessions[name]:
            del sessions[name]
    return ordered
