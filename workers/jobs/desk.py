"""What a job's process works with: its record, its log, a folder of its own, and how it tells how far it has come.

Knows nothing of what the job does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mindsight.bus import Bus, Lease
from mindsight.files.digest import sha256_of
from mindsight.journal.jobs import Jobs, log_name
from mindsight.protocol.jobs import (
    JobLearned,
    JobMessage,
    JobNote,
    JobProgress,
    JobRecord,
    JobTuned,
    VersionMade,
    dump_job_message,
)
from mindsight.settings import Settings
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Measured, Version, VersionStore

EVERY_S = 1.0  # between two reports of one step


@dataclass
class Desk:
    """One job, in its process, under its lease."""

    settings: Settings
    bus: Bus
    record: JobRecord
    lease: Lease
    clock: Callable[[], float] = time.monotonic
    _step: str = ""
    _began_s: float = 0.0
    _began_at: int = 0
    _reported_s: float = field(default=-1e9)
    _pace_told: bool = False

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.bus, time.time)

    @property
    def scratch(self) -> Path:
        """What is in this folder survives a kill; it is removed when the job is done."""
        folder = self.settings.jobs_dir / self.record.job
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.subjects_dir)

    @property
    def versions(self) -> VersionStore:
        return version_store(self.settings)

    def progress(self, step: str, done: int, n: int | None, left_s: float | None = None) -> None:
        """Report at most once a second, and of each step the beginning, the first pace and the end.

        left_s : if it is known; None: by the pace of this step so far
        """
        now_s = self.clock()
        if step != self._step:
            self._step, self._began_s, self._began_at, self._reported_s = step, now_s, done, -1e9
            self._pace_told = False
        passed = done - self._began_at
        pace_is_new = passed > 0 and not self._pace_told  # a step of less than a second also says how long it takes
        if now_s < self._reported_s + EVERY_S and done != n and not pace_is_new:
            return
        self._reported_s, self._pace_told = now_s, passed > 0
        if left_s is None and n is not None and passed > 0:
            left_s = round((now_s - self._began_s) / passed * max(n - done, 0), 1)
        self._append(
            JobProgress(job=self.record.job, t=time.time(), step=step, done=done, n=n, left_s=left_s), "progress"
        )

    def note(self, code: str, text: str, level: str = "warning") -> None:
        """Report something once, also if the job is ended and goes on."""
        note = JobNote(
            job=self.record.job,
            t=time.time(),
            code=code,
            text=text,
            level="info" if level == "info" else "warning",
        )
        self._append(note, f"note-{sha256_of(f'{code} {text}'.encode())[:16]}")

    def learned(self, version: Version, measured: Measured, minutes: float | None = None) -> None:
        """One point of the learning curve, once for a version."""
        point = JobLearned(
            job=self.record.job,
            t=time.time(),
            n_runs=version.n_runs,
            n_trials=version.n_trials,
            minutes=minutes,
            **measured.model_dump(),
        )
        self._append(point, f"learned-{version.number}")

    def tuned(self, steps: int, loss: float) -> None:
        """A look between gradient steps, once for each, also if the job is ended and goes on."""
        look = JobTuned(job=self.record.job, t=time.time(), steps=steps, loss=loss if math.isfinite(loss) else None)
        self._append(look, f"tuned-{steps}")

    def made(self, version: Version, *, active: bool) -> None:
        message = VersionMade(
            job=self.record.job,
            t=time.time(),
            version=version.number,
            bundle=version.bundle,
            digest=version.digest,
            active=active,
            text=version.verdict,
        )
        self._append(message, f"version-{version.number}")

    def _append(self, message: JobMessage, key: str) -> None:
        """Progress has a key of its own each time; every other message is written once."""
        if key == "progress":
            key = f"progress-{message.t!r}-{self.lease.fence.token}"
        log = self.jobs.log(self.record.job)
        log.append(key, dump_job_message(message), identity=key, fence=self.lease.fence)


def version_store(settings: Settings) -> VersionStore:
    """Of this data folder."""
    return VersionStore(settings.versions_dir, settings.bundles_dir, Registry(settings.subjects_dir))


def lease_name(record: JobRecord) -> str:
    return log_name(record.job)
