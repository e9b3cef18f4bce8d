"""What a visit's calibration reports, as messages of its job. Knows nothing of what is calibrated from."""

from __future__ import annotations

from training.calibration.left_out import Gain
from training.calibration.visit import Progress
from workers.jobs.desk import Desk


def report_visit(desk: Desk, progress: Progress) -> None:
    """How far it is, and what gradient steps have come to."""
    if progress.look is not None:
        desk.tuned(progress.look.step, progress.look.loss)
    desk.progress(progress.stage, progress.done, progress.total, progress.left_s)


def gained(gain: Gain | None) -> str | None:
    """Why a decoder replaces the one before in its job; None of the first."""
    return None if gain is None else f"better than the version before, on trials left out of both: {gain}"
