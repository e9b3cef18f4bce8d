"""A calibration from a session that is being scanned: after each run a new version, which decodes the runs after it.

A worse decoder never replaces a better one: both are compared on the same held-out trials.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mindsight.errors import BadRequest, Conflict
from mindsight.files.durable import write_durably
from mindsight.ingest import IngestOptions
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.preprocessing.quality.baseline import baseline_of
from mindsight.protocol.jobs import CalibrationTask
from mindsight.retrieval import CandidatePool
from mindsight.subjects.needed import check_labels
from mindsight.subjects.versions import Version
from training.calibration.streamed import Key, calibrate_streamed, is_worse
from workers.ingest.options import ingest_options
from workers.jobs.desk import Desk
from workers.jobs.followed import FollowedSession
from workers.jobs.pools import open_pool
from workers.jobs.release import Made, already, release

SILENCE_S = 1800.0  # without any message of the session, until the calibration ends with what it has


def calibrate_live(desk: Desk, task: CalibrationTask, session: str) -> str:
    """Follow the session to its end; what was made, in words.

    Raises BadRequest (``calibration.few`` and others of ``check_labels``) if the session never had enough.
    """
    pool = open_pool(desk.settings, task.pool)
    followed = FollowedSession(desk.settings, desk.bus, session, by_label=pool is None)
    versions = _Versions(desk, task, session, followed, pool)
    heard_s = time.monotonic()
    while True:
        if followed.read():
            heard_s = time.monotonic()
            desk.progress("trials", followed.n_trials, None)
            continue  # first all that is there
        runs = followed.estimated()
        for n in range(versions.n_runs + 1, len(runs) + 1):
            versions.add(runs[:n])
        if followed.archived or time.monotonic() > heard_s + SILENCE_S:
            return versions.summary(is_over=followed.archived)


class _Versions:
    """The versions made so far. ``n_runs`` : runs that were looked at."""

    def __init__(
        self, desk: Desk, task: CalibrationTask, session: str, followed: FollowedSession, pool: CandidatePool | None
    ) -> None:
        self._desk, self._task, self._session = desk, task, session
        self._followed, self._pool = followed, pool
        opened = Journal(desk.bus, session).opened()
        self._options: IngestOptions = ingest_options(opened.options, None)
        self._best: Mapping[Key, float] = {}
        self._made: list[Version] = []
        self.n_runs = 0

    def add(self, runs: Sequence[int]) -> None:
        """The version of these runs, unless it was made before this job was ended."""
        desk, followed = self._desk, self._followed
        self.n_runs = len(runs)
        streamed = [followed.run(number) for number in runs]
        source, kept = f"{self._session}-{len(runs)}", desk.scratch / f"losses-{len(runs)}.json"
        version = already(desk, self._task.subject, source)
        if version is not None and kept.exists():
            if version.verdict and not version.verdict.startswith("kept"):
                self._best = _read(kept)
        else:
            try:
                candidates = None if self._pool is None else self._pool.ids
                check_labels([list(run.labels.values()) for run in streamed], candidates, min_runs=1)
            except BadRequest as error:
                desk.note(error.code, f"after run {runs[-1]}: no decoder yet: {error}", "info")
                return
            if followed.space is None:
                raise Conflict(
                    "expected the voxels of a run that has ended, got none: the session was archived before it was"
                    " followed; calibrate from it as an archived session",
                    code="calibration.space",
                )
            desk.progress("fit", 0, 1)
            signals = [followed.signals[number] for number in runs if number in followed.signals]
            made = calibrate_streamed(
                streamed,
                followed.space,
                self._options,
                self._task.subject,
                datetime.now(UTC),
                self._pool,
                baseline_of(signals) if signals else None,
            )
            worse = is_worse(made.losses, self._best) if self._best else None
            _write(kept, made.losses)
            version = release(
                desk,
                self._task,
                Made(
                    made.bundle,
                    source,
                    (self._session,),
                    n_runs=len(runs),
                    n_trials=made.n_trials,
                    is_worse=worse,
                    minutes=round(followed.minutes, 2),
                ),
            )
            desk.progress("fit", 1, 1)
            if not worse:
                self._best = made.losses
        self._made.append(version)
        self._hand_over(version)

    def _hand_over(self, version: Version) -> None:
        """Open sessions with the same voxels decode their next runs with it: this one, and those that were opened with
        an earlier version of this calibration.
        """
        held = self._desk.versions.read(self._task.subject)
        if held.active is None or held.active.number != version.number:
            return
        own = {made.bundle for made in held.versions if made.job == self._desk.record.job}
        for record in Sessions(self._desk.bus).unfinished():
            if record.state != "open" or record.bundle == version.bundle:
                continue
            if record.session == self._session or record.bundle in own:
                text = f"version {version.number}, of {version.n_runs} runs and {version.n_trials} trials"
                with suppress(Conflict):  # it was closed meanwhile
                    recorder = Recorder(self._desk.bus, record.session, time.time)
                    recorder.set_bundle(version.bundle, version.digest, text)

    def summary(self, *, is_over: bool) -> str:
        """Raises BadRequest if there is no version."""
        if not self._made:
            runs = [list(self._followed.run(number).labels.values()) for number in self._followed.estimated()]
            check_labels(runs, None if self._pool is None else self._pool.ids, min_runs=1)
            raise BadRequest("expected runs with betas, got none: nothing was calibrated", code="calibration.few")
        last, end = self._made[-1], "" if is_over else "; the session was silent for too long"
        return f"{len(self._made)} versions, the last of {last.n_trials} trials: {last.verdict}{end}"


def _write(path: Path, losses: Mapping[Key, float]) -> None:
    write_durably(path, json.dumps([[*key, loss] for key, loss in losses.items()]).encode())


def _read(path: Path) -> dict[Key, float]:
    return {(run, trial): loss for run, trial, loss in json.loads(path.read_bytes())}
