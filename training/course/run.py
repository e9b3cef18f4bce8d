"""The steps of a run from its newest checkpoint to its end, with metrics, progress and checkpoints.

Knows nothing of what a step does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from training.course.checkpoint import newest_checkpoint, save_checkpoint
from training.course.event_file import EventFile
from training.course.metrics import Metrics, Progress
from training.course.team import Team

CHECKPOINTS, METRICS, EVENTS = "checkpoints", "metrics.jsonl", "tensorboard"


class Steps(Protocol):
    """One process's part of a run. ``step`` is how many steps the optimiser has made."""

    step: int

    def advance(self) -> dict[str, Any]:
        """Make one step; its figures, the ``loss`` among them."""

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to continue, beside the number of steps."""

    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        """Continue after ``step`` with what ``state`` gave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A run as its folder knows it.

    out : folder of the run
    kind : of training, for the manifests of checkpoints
    described : what the run depends on, which a checkpoint to continue from must agree with
    steps, checkpoint_every : of the optimiser
    """

    out: Path
    kind: str
    described: Mapping[str, Any]
    steps: int
    checkpoint_every: int


def run(
    training: Steps, course: Course, team: Team, clock: Callable[[], float], wall: Callable[[], float] = time.time
) -> None:
    """Make the steps that are left, from the newest checkpoint on.

    clock : seconds, for the time left; wall : seconds since the Unix epoch, for TensorBoard

    Raises what reading and writing checkpoints raises, and what a step raises.
    """
    found = newest_checkpoint(course.out / CHECKPOINTS, course.kind, course.described)
    if found is not None:
        training.restore(found.step, found.state)
    team.wait()  # until all have read, before one writes
    if not team.leads:
        while training.step < course.steps:
            training.advance()
        return
    metrics = Metrics(course.out / METRICS, training.step)
    events = EventFile(course.out / EVENTS, training.step, wall())
    progress = Progress(training.step, course.steps, clock())
    try:
        while training.step < course.steps:
            figures = training.advance()
            metrics.write(training.step, figures)
            events.write(training.step, figures, wall())
            progress(training.step, figures["loss"], clock())
            if training.step % course.checkpoint_every == 0 or training.step == course.steps:
                state = training.state()
                save_checkpoint(course.out / CHECKPOINTS, course.kind, training.step, course.described, state)
    finally:
        metrics.close()
        events.close()
