"""A calibrated bundle becomes a version of its subject's, and the active one if it is not worse.

Knows nothing of how bundles are made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mindsight.accuracy import Accuracy
from mindsight.bus import WorkQueue
from mindsight.errors import Conflict
from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.evaluation.calibration_report import save_with_report
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask
from mindsight.protocol.work import parse_work
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.versions import Measured, Version
from workers.jobs.desk import Desk


@dataclass(frozen=True, eq=False)
class Made:
    """A bundle that is not saved yet.

    source : names it within its job, so that a job that goes on makes no second one
    better : why it replaces the version before it in the same job, if that is the active one; else, and if it is None,
        held-out accuracies are compared
    minutes : of scanning that its trials took; None: unknown
    """

    bundle: Bundle
    record: CalibrationRecord
    source: str
    sessions: Sequence[str]
    n_runs: int
    n_trials: int
    better: str | None = None
    minutes: float | None = None


def already(desk: Desk, subject: str, source: str) -> Version | None:
    """The version that this job made of this source before it was ended; what was left to do for it is done."""
    held = desk.versions.read(subject)
    for version in held.versions:
        if version.job == desk.record.job and version.source == source:
            is_active = held.active is not None and held.active.number == version.number
            if is_active:
                desk.versions.activate(subject, version.number)
            _announce(desk, version, active=is_active)
            return version
    return None


def release(desk: Desk, task: CalibrationTask, made: Made) -> Version:
    """Save the bundle, list it, make it active if it may be, and remove versions that are no longer kept."""
    desk.lease.renew()  # a worker that was replaced must not write
    held = desk.versions.read(task.subject)
    measured = None if made.bundle.accuracy is None else measured_of(made.bundle.accuracy)
    follows = held.active is not None and held.active.job == desk.record.job
    replaces, verdict = judge(measured, held.active, made.better if follows else None, task)
    number, folder = desk.versions.next_folder(task.subject)
    saved = save_with_report(made.bundle, made.record, folder)
    version = Version(
        number=number,
        bundle=folder.name,
        digest=saved.digest,
        created_t=time.time(),
        job=desk.record.job,
        source=made.source,
        sessions=tuple(made.sessions),
        n_trials=made.n_trials,
        n_runs=made.n_runs,
        measured=measured,
        verdict=verdict,
    )
    desk.lease.renew()
    desk.versions.add(version, task.subject, activate=replaces)
    _announce(desk, version, active=replaces, minutes=made.minutes)
    with suppress(Conflict):  # a session that this version of Mindsight cannot read may use any
        desk.versions.clear(task.subject, _in_use(desk))
    return version


def _in_use(desk: Desk) -> set[str]:
    """Bundles of sessions that are not archived, and of betas that wait to be decoded or drawn."""
    named = set[str | None]()
    for queue in ("inference", "pictures"):
        for payload in WorkQueue(desk.bus, queue).unfinished():
            with suppress(ValueError):  # a worker puts aside what cannot be read
                named.add(parse_work(payload).bundle)
    return Sessions(desk.bus).bundles_in_use() | {bundle for bundle in named if bundle is not None}


def _announce(desk: Desk, version: Version, *, active: bool, minutes: float | None = None) -> None:
    if version.measured is not None:
        desk.learned(version, version.measured, minutes)
    desk.made(version, active=active)


def judge(
    measured: Measured | None, active: Version | None, better: str | None, task: CalibrationTask
) -> tuple[bool, str]:
    """Whether a new version replaces the active one, and why.

    Accuracies on trials that each decoder was not fitted to are comparable only at the same level of chance. Where they
    are not, a person decides.
    """
    if task.activate == "never":
        return False, "not activated, as asked"
    if active is None:
        return True, "the first version"
    if better is not None:
        return True, better
    if measured is None or active.measured is None:
        return False, f"not comparable with version {active.number}, which stays active: its accuracy is not known"
    if not math.isclose(measured.chance, active.measured.chance):
        return False, f"not comparable with version {active.number}, which stays active: another candidate pool"
    both = f"{measured.accuracy:.2f} (n {measured.n}) against {active.measured.accuracy:.2f} (n {active.measured.n})"
    if measured.accuracy < active.measured.accuracy:
        return False, f"worse than version {active.number}, which stays active: held-out accuracy {both}"
    return True, f"not worse than version {active.number}: held-out accuracy {both}"


def measured_of(accuracy: Accuracy) -> Measured:
    low, high = accuracy.interval
    return Measured(accuracy=accuracy.value, low=low, high=high, n=accuracy.n, chance=accuracy.chance)
