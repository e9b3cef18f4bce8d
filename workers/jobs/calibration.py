"""A calibration as a job: from archived sessions, or from a session that is being scanned (``live``)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mindsight.errors import NotFound
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask
from training.calibration.archived import ArchivedRuns, open_archived
from training.calibration.linear_bundle import calibrate_runs
from training.calibration.runs import Labels
from workers.jobs.desk import Desk
from workers.jobs.pools import open_pool
from workers.jobs.release import Made, already, release

ARCHIVED = "archived"
PASSES = 2  # over the volumes: one to choose the options of the model, one for the betas


def calibrate(desk: Desk, task: CalibrationTask) -> str:
    """Carry the task out; what was made, in words."""
    if task.live is not None:
        from workers.jobs.live import calibrate_live

        return calibrate_live(desk, task, task.live)
    done = already(desk, task.subject, ARCHIVED)
    if done is not None:
        return f"version {done.number}: {done.verdict}"
    archives = [_archive(desk, task.subject, session) for session in task.sessions]
    read = 0
    found: ArchivedRuns | None = None

    def tell() -> None:
        nonlocal read
        read += 1
        if found is not None:
            desk.progress("betas", min(read, PASSES * found.n_volumes), PASSES * found.n_volumes)

    pool = open_pool(desk.settings, task.pool)
    desk.progress("reading", 0, len(archives))
    found = open_archived(archives, pool, tell)
    for note in found.notes:
        desk.note(note.code, note.text, note.level)
    labels: Labels = "trial_type" if pool is None else "stim_file"
    made = calibrate_runs(found.runs, found.names, labels, task.subject, datetime.now(UTC), pool=pool)
    version = release(
        desk,
        task,
        Made(made.bundle, made.record, ARCHIVED, task.sessions, n_runs=len(found.runs), n_trials=found.n_trials),
    )
    return f"version {version.number}: {version.verdict}"


def _archive(desk: Desk, subject: str, session: str) -> Path:
    """Raises NotFound (``session.unknown``, ``session.not_archived``)."""
    record = Sessions(desk.bus).get(session)
    folder = desk.settings.archive_dir / f"{subject}_{session}"
    if record.subject != subject or not folder.exists():
        raise NotFound(
            f"expected an archived session of {subject}, {session} is none: close it and wait for its archive",
            code="session.not_archived",
        )
    return folder
