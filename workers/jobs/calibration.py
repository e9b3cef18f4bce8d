"""A calibration as a job: from archived sessions, or from a session that is being scanned (``live``)."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from mindsight.errors import NotFound
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask
from mindsight.retrieval import CandidatePool
from mindsight.subjects.versions import Version
from training.calibration.archived import ArchivedRuns, open_archived
from training.calibration.gradient import Recipe
from training.calibration.linear_bundle import BY_RUN, calibrate_runs, space_of
from training.calibration.runs import Labels
from training.calibration.visit import Progress, Visit, calibrate_visit
from training.calibration.visit_runs import ingest_visit
from workers.jobs.desk import Desk
from workers.jobs.pools import check_encoder, open_pool
from workers.jobs.release import Made, already, release
from workers.jobs.reports import gained, report_visit

ARCHIVED, TUNED = "archived", "archived, fine-tuned"  # what a version is made of
PASSES = 2  # over the volumes: one to choose the options of the model, one for the betas


def calibrate(desk: Desk, task: CalibrationTask) -> str:
    """Carry the task out; what was made, in words."""
    if task.live is not None:
        from workers.jobs.live import calibrate_live

        return calibrate_live(desk, task, task.live)
    done = already(desk, task.subject, TUNED if task.fine_tuning else ARCHIVED) or _from_archives(desk, task)
    return f"version {done.number}: {done.verdict}"


def _from_archives(desk: Desk, task: CalibrationTask) -> Version:
    archives = [_archive(desk, task.subject, session) for session in task.sessions]
    pool = open_pool(desk.settings, task.pool)
    check_encoder(desk.settings, pool)
    read, found = 0, None
    by_backbone = pool is not None and desk.settings.backbone_dir is not None
    passes = 1 if by_backbone else PASSES

    def tell() -> None:
        nonlocal read
        read += 1
        if found is not None:
            desk.progress("betas", min(read, passes * found.n_volumes), passes * found.n_volumes)

    desk.progress("reading", 0, len(archives))
    found = open_archived(archives, pool, tell)
    for note in found.notes:
        desk.note(note.code, note.text, note.level)
    if pool is not None and by_backbone:
        return _fitted(desk, task, found, pool)
    return release(desk, task, _linear(task, found, pool))


def _linear(task: CalibrationTask, found: ArchivedRuns, pool: CandidatePool | None) -> Made:
    """With the options of the model that these runs support."""
    labels: Labels = "trial_type" if pool is None else "stim_file"
    made = calibrate_runs(found.runs, found.names, labels, task.subject, datetime.now(UTC), pool=pool)
    return Made(made.bundle, made.record, ARCHIVED, task.sessions, n_runs=len(found.runs), n_trials=found.n_trials)


def _fitted(desk: Desk, task: CalibrationTask, found: ArchivedRuns, pool: CandidatePool) -> Version:
    """With the backbone that subjects share: in closed form, and then by gradient steps if these are asked for.

    Runs that were ingested before this job was ended are kept.
    """
    space = space_of(found.runs[0].recorded)
    visit = Visit(
        subject=task.subject,
        created=datetime.fromtimestamp(desk.record.created_t, UTC),
        options=BY_RUN,
        space=space,
        stimuli=pool,
        backbone=desk.settings.backbone_dir,
        labels="stim_file",
        fine_tuning=Recipe() if task.fine_tuning else None,
    )

    def report(progress: Progress) -> None:
        if progress.stage != "betas":  # these are counted by volumes
            report_visit(desk, progress)

    fits, n_runs = desk.scratch / "visit", len(found.runs)
    version = already(desk, task.subject, ARCHIVED)
    if version is None:  # fits may have been taken by a process that ended before it listed them
        shutil.rmtree(fits, ignore_errors=True)
    runs = ingest_visit(found.runs, space, BY_RUN, desk.scratch)
    for made in calibrate_visit(visit, runs, fits, n_runs=n_runs, once=True, report_progress=report):
        source = ARCHIVED if made.gain is None else TUNED
        version = already(desk, task.subject, source) or release(
            desk,
            task,
            Made(
                made.bundle,
                made.record,
                source,
                task.sessions,
                n_runs=n_runs,
                n_trials=made.bundle.statistics.n,
                better=gained(made.gain),
            ),
        )
    assert version is not None
    if task.fine_tuning and version.source != TUNED:
        desk.note("calibration.no_gain", "gradient steps made the decoder no better on images left out of both", "info")
    return version


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
