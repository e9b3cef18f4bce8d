"""A calibration from a session that is being scanned: after each run a better version, which decodes the runs after it.

Decoders come from ``calibrate_visit``, which yields one only if it is better than the one before. A job that was ended
reads the session's log again from its start, and goes on from its scratch folder.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import numpy as np

from mindsight.errors import BadRequest, Conflict, NotFound
from mindsight.files.digest import sha256_of
from mindsight.ingest.space import SubjectSpace
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask
from mindsight.retrieval import CandidatePool
from mindsight.subjects.versions import Version
from training.calibration.visit import Calibrated, Visit, calibrate_visit
from training.calibration.visit_runs import CalibrationRun
from workers.ingest.options import ingest_options
from workers.jobs.archived import FromArchives
from workers.jobs.desk import Desk
from workers.jobs.followed import FollowedSession
from workers.jobs.pools import check_encoder, open_pool
from workers.jobs.release import Made, already, release
from workers.jobs.reports import gained, report_visit

SILENCE_S = 1800.0  # without any message of the session, until the calibration ends with what it has


class NewLabels(Exception):
    """A run showed labels that no run before it had: the classes, and with them the decoders, are others."""


def calibrate_live(desk: Desk, task: CalibrationTask, session: str) -> str:
    """Follow the session to its end; what was made, in words.

    Raises BadRequest if the session ended and never had enough, see ``calibrate_visit``.
    """
    return _Live(desk, task, session).carry_out()


class _Live:
    def __init__(self, desk: Desk, task: CalibrationTask, session: str) -> None:
        self._desk, self._task, self._session = desk, task, session
        self._pool = open_pool(desk.settings, task.pool)
        check_encoder(desk.settings, self._pool)
        known = None if self._pool is None else frozenset(self._pool.ids)
        self._followed = FollowedSession(desk.settings, desk.bus, session, known)
        self._options = ingest_options(Journal(desk.bus, session).opened().options, None)
        self._heard_s = time.monotonic()

    def carry_out(self) -> str:
        if not self._is_archived:  # a job that was ended may go on after its session
            self._follow()
        self._estimate_again()
        made = self._made()
        if not made:
            raise BadRequest("expected trials that a decoder can be made of, got others", code="calibration.trials")
        last = made[-1]
        end = "" if self._is_archived else "; the session was silent for too long"
        return f"{len(made)} versions, the last of {last.n_trials} trials: {last.verdict}{end}"

    def _follow(self) -> None:
        """A version after each run that has a better decoder, until no more runs come."""
        while True:
            runs = self._await(0)
            if runs is None:
                raise BadRequest(
                    "expected a run with labelled trials, got none before the session ended: declare what its trials"
                    " showed",
                    code="calibration.trials",
                )
            try:
                self._visit(runs)
            except NewLabels:
                continue
            return

    @property
    def _is_archived(self) -> bool:
        return Sessions(self._desk.bus).get(self._session).state == "archived"

    def _estimate_again(self) -> None:
        """When the session is archived: choose how betas are estimated on all its runs, which the session could not
        know, estimate them so, and make gradient steps if these are asked for. Later sessions decode with what is
        better; this one keeps its model.
        """
        found = FromArchives(
            desk=self._desk,
            task=self._task,
            sessions=(self._session,),
            pool=self._pool,
            scratch=self._desk.scratch / "archived",
            source=f"{self._session}, estimated again",
            options=self._options,
            as_live=True,
        )
        try:
            if self._task.fine_tuning or found.chosen.differs_from(self._options):
                found.version()
        except (NotFound, BadRequest) as error:
            if not self._made():
                raise
            self._desk.note("calibration.again", f"the runs were not estimated again as a whole: {error}")

    def _visit(self, runs: Sequence[int]) -> None:
        """All runs, with the labels of the first of them. Raises NewLabels."""
        space = self._followed.space
        if space is None:
            return  # the session was archived before it was followed: its archive has everything
        names = self._followed.labels(runs)
        pool = self._pool or CandidatePool(names, np.eye(len(names), dtype=np.float32), names)
        visit = Visit(
            subject=self._task.subject,
            created=datetime.fromtimestamp(self._desk.record.created_t, UTC),
            options=self._options,
            space=space,
            stimuli=pool,
            backbone=None if self._pool is None else self._desk.settings.backbone_dir,
            hold_out="run" if self._pool is None else "image",
            labels="trial_type" if self._pool is None else "stim_file",
        )
        scratch = self._desk.scratch / f"visit-{visit.digest()[:16]}"
        found = calibrate_visit(
            visit, self._runs(len(runs), names), scratch, report_progress=partial(report_visit, self._desk)
        )
        for calibrated in found:
            self._release(calibrated, space, names)

    def _runs(self, n_known: int, names: Sequence[str]) -> Iterator[CalibrationRun]:
        """The session's runs as they end. Raises NewLabels where the labels are the candidates."""
        for n in itertools.count():
            if n:
                self._desk.progress("runs", n, None)
            runs = self._await(n)
            if runs is None:
                return
            run = self._followed.run(runs[n])
            if self._pool is None and not set(run.shown.values()) <= set(names):
                raise NewLabels
            yield run

    def _await(self, n: int) -> list[int] | None:
        """The estimated runs, once there are more than ``n``; None when no more will come."""
        while True:
            runs = self._followed.estimated()
            if len(runs) > n:
                return runs
            if self._followed.over or time.monotonic() > self._heard_s + SILENCE_S:
                return None
            if self._followed.read():
                self._heard_s = time.monotonic()
                self._desk.progress("trials", self._followed.n_trials, None)

    def _release(self, calibrated: Calibrated, space: SubjectSpace, names: Sequence[str]) -> None:
        n_runs = len(calibrated.runs)
        source = f"{self._session}-{n_runs}-{len(names)}-{sha256_of(calibrated.how.encode())[:8]}"
        version = already(self._desk, self._task.subject, source)
        if version is None:
            why = gained(calibrated.gain)
            if why is None and self._made():
                why = f"it knows {len(names)} labels"
            version = release(
                self._desk,
                self._task,
                Made(
                    calibrated.bundle,
                    calibrated.record,
                    source,
                    (self._session,),
                    n_runs=n_runs,
                    n_trials=calibrated.bundle.statistics.n,
                    better=why,
                    minutes=round(self._followed.minutes(calibrated.runs), 2),
                ),
            )
        self._hand_over(version)

    def _made(self) -> list[Version]:
        """The versions of this job, also those that were made before it was ended."""
        held = self._desk.versions.read(self._task.subject)
        return [version for version in held.versions if version.job == self._desk.record.job]

    def _hand_over(self, version: Version) -> None:
        """Open sessions with the same voxels decode their next runs with it: this one, and those that were opened with
        an earlier version of this calibration.
        """
        active = self._desk.versions.read(self._task.subject).active
        if active is None or active.number != version.number:
            return
        own = {made.bundle for made in self._made()}
        text = f"version {version.number}, of {version.n_runs} runs and {version.n_trials} trials"
        for record in Sessions(self._desk.bus).unfinished():
            is_ours = record.session == self._session or record.bundle in own
            if record.state == "open" and is_ours and record.bundle != version.bundle:
                with suppress(Conflict):  # it was closed meanwhile
                    recorder = Recorder(self._desk.bus, record.session, time.time)
                    recorder.set_bundle(version.bundle, version.digest, text)
