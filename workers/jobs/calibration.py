"""A calibration as a job: from archived sessions, or from a session that is being scanned (``live``)."""

from __future__ import annotations

from datetime import UTC, datetime

from mindsight.protocol.jobs import CalibrationTask
from mindsight.retrieval import CandidatePool
from mindsight.subjects.versions import Version
from training.calibration.archived import ArchivedRuns
from training.calibration.linear_bundle import calibrate_runs
from training.calibration.runs import Labels
from workers.jobs.archived import FromArchives
from workers.jobs.desk import Desk
from workers.jobs.pools import check_encoder, open_pool
from workers.jobs.release import Made, already, release

ARCHIVED = "archived"


def calibrate(desk: Desk, task: CalibrationTask) -> str:
    """Carry the task out; what was made, in words."""
    if task.live is not None:
        from workers.jobs.live import calibrate_live

        return calibrate_live(desk, task, task.live)
    done = _from_archives(desk, task)
    return f"version {done.number}: {done.verdict}"


def _from_archives(desk: Desk, task: CalibrationTask) -> Version:
    pool = open_pool(desk.settings, task.pool)
    found = FromArchives(desk=desk, task=task, sessions=task.sessions, pool=pool, scratch=desk.scratch, source=ARCHIVED)
    done = already(desk, task.subject, found.tuned if task.fine_tuning else found.source)
    if done is not None:
        return done
    check_encoder(desk.settings, pool)
    if pool is not None and desk.settings.backbone_dir is not None:
        return found.version()
    return release(desk, task, _linear(task, found.runs, pool))


def _linear(task: CalibrationTask, found: ArchivedRuns, pool: CandidatePool | None) -> Made:
    """With the options of the model that these runs support."""
    labels: Labels = "trial_type" if pool is None else "stim_file"
    made = calibrate_runs(found.runs, found.names, labels, task.subject, datetime.now(UTC), pool=pool)
    return Made(made.bundle, made.record, ARCHIVED, task.sessions, n_runs=len(found.runs), n_trials=found.n_trials)
