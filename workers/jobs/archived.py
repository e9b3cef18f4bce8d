"""Versions of a bundle made of archived sessions: how betas are estimated is chosen, and then decoders are fitted.

Knows nothing of how the sessions were asked for. What was found is kept in a folder, from which a job that was ended
goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from mindsight.errors import NotFound
from mindsight.files.durable import make_folder
from mindsight.ingest import IngestOptions
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask
from mindsight.retrieval import CandidatePool
from mindsight.subjects.needed import check_tuned
from mindsight.subjects.versions import Version
from training.calibration.archived import ArchivedRuns, open_archived
from training.calibration.glm_choice import Chosen
from training.calibration.gradient import Recipe
from training.calibration.linear_bundle import BY_RUN, space_of
from training.calibration.model_choice import choose_model, in_space, keep_choice, read_choice
from training.calibration.visit import Calibrated, Progress, Visit, calibrate_visit
from training.calibration.visit_runs import ingest_visit
from workers.jobs.desk import Desk
from workers.jobs.release import Made, already, release
from workers.jobs.reports import gained, report_visit


@dataclass(frozen=True, eq=False, kw_only=True)
class FromArchives:
    """What one job makes of sessions.

    pool : what trials showed; None: their labels
    scratch : a folder of these sessions alone; it survives a kill
    source : names the version in closed form within the job
    options : of the betas, where the runs do not support others
    as_live : one run is enough, and trials that show what is not in the pool are left out, as a live calibration does
    """

    desk: Desk
    task: CalibrationTask
    sessions: Sequence[str]
    pool: CandidatePool | None
    scratch: Path
    source: str
    options: IngestOptions = BY_RUN
    as_live: bool = False

    @property
    def tuned(self) -> str:
        """Names the version after gradient steps."""
        return f"{self.source}, fine-tuned"

    @cached_property
    def runs(self) -> ArchivedRuns:
        """Raises NotFound (``session.not_archived``), and what ``open_archived`` raises."""
        archives = [archive_of(self.desk, self.task.subject, session) for session in self.sessions]
        read, opened = 0, list[ArchivedRuns]()

        def tell() -> None:
            nonlocal read
            read += 1
            for found in opened:
                self.desk.progress("betas", min(read, passes * found.n_volumes), passes * found.n_volumes)

        passes = 1 if self._choice.is_file() else 2
        self.desk.progress("reading", 0, len(archives))
        opened.append(open_archived(archives, self.pool, tell, as_live=self.as_live))
        for note in opened[0].notes:
            self.desk.note(note.code, note.text, note.level)
        return opened[0]

    @cached_property
    def chosen(self) -> Chosen:
        """How betas are estimated, for which two runs are needed."""
        if self._choice.is_file():
            return read_choice(self._choice)
        chosen, runs = Chosen(self.options), self.runs.runs
        if len(runs) > 1:
            names, stimuli = self.runs.names, self._stimuli
            shown = CandidatePool(names, stimuli.embeddings[[stimuli.index_of(stimuli.named(n)) for n in names]])
            # where images are left out, voxels are chosen: those of a noise pool might not be among them
            chosen = choose_model(runs, space_of(runs[0].recorded), self.options, shown, noise_pool=self.pool is None)
        make_folder(self.scratch)
        keep_choice(chosen, self._choice)
        return read_choice(self._choice)  # as a job that goes on finds it: a digest of it names the fits

    def version(self) -> Version:
        """Of all runs in closed form, and after gradient steps if these are asked for and are better.

        Raises BadRequest, see ``check_tuned``.
        """
        if self.task.fine_tuning:
            check_tuned([list(run.trials.labels.values()) for run in self.runs.runs])
        subject, fits = self.task.subject, self.scratch / "visit"
        version = already(self.desk, subject, self.source)
        if version is None:  # fits may have been taken by a process that ended before it listed them
            shutil.rmtree(fits, ignore_errors=True)
        visit, n_runs = self._visit(), len(self.runs.runs)
        betas = ingest_visit(self.runs.runs, visit.space, visit.options, self.scratch)
        for made in calibrate_visit(visit, betas, fits, n_runs=n_runs, once=True, report_progress=self._report):
            version = already(self.desk, subject, self._source(made)) or self._release(made)
        assert version is not None
        if self.task.fine_tuning and version.source != self.tuned:
            text = "gradient steps made the decoder no better on images left out of both"
            self.desk.note("calibration.no_gain", text, "info")
        return version

    @property
    def _choice(self) -> Path:
        return self.scratch / "model.safetensors"

    @cached_property
    def _stimuli(self) -> CandidatePool:
        names = self.runs.names
        return self.pool or CandidatePool(names, np.eye(len(names), dtype=np.float32), names)

    def _visit(self) -> Visit:
        return Visit(
            subject=self.task.subject,
            created=datetime.fromtimestamp(self.desk.record.created_t, UTC),
            options=self.chosen.options,
            space=in_space(self.chosen, space_of(self.runs.runs[0].recorded)),
            stimuli=self._stimuli,
            backbone=None if self.pool is None else self.desk.settings.backbone_dir,
            hold_out="run" if self.pool is None else "image",
            labels="trial_type" if self.pool is None else "stim_file",
            fine_tuning=Recipe() if self.task.fine_tuning else None,
        )

    def _source(self, made: Calibrated) -> str:
        return self.source if made.gain is None else self.tuned

    def _release(self, made: Calibrated) -> Version:
        record = made.record
        if self.chosen.differs_from(self.options):
            record = replace(record, held_out=f"{record.held_out}; how betas are estimated is chosen on the same runs")
        return release(
            self.desk,
            self.task,
            Made(
                made.bundle,
                record,
                self._source(made),
                tuple(self.sessions),
                n_runs=len(made.runs),
                n_trials=made.bundle.statistics.n,
                better=gained(made.gain),
            ),
        )

    def _report(self, progress: Progress) -> None:
        if progress.stage != "betas":  # these are counted by volumes
            report_visit(self.desk, progress)


def archive_of(desk: Desk, subject: str, session: str) -> Path:
    """Raises NotFound (``session.unknown``, ``session.not_archived``)."""
    record = Sessions(desk.bus).get(session)
    folder = desk.settings.archive_dir / f"{subject}_{session}"
    if record.subject != subject or not folder.exists():
        raise NotFound(
            f"expected an archived session of {subject}, {session} is none: close it and wait for its archive",
            code="session.not_archived",
        )
    return folder
