"""Labelled runs of one subject on their way through ingest, and what calibration takes from them.

Every volume goes through the same ``IngestSession`` as in a live session. Knows nothing of decoders. Letters: K trials,
V voxels, R runs, T volumes of a run.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import z_scored
from mindsight.errors import BadRequest
from mindsight.events import Note
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.feed import Trials, fill_gap, number_trials, start_run
from mindsight.ingest.outputs import TrialBeta, VolumeReport
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.baseline import Baseline, baseline_of, measure_signal
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.scanner import RecordedRun, open_run
from mindsight.scanner.echoes import EchoChoice
from mindsight.volume import Volume
from training.calibration.linear_choice import RunTrials

Labels = Literal["trial_type", "stim_file"]


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A recorded run, and its trials."""

    recorded: RecordedRun
    trials: Trials


@dataclass(frozen=True, slots=True)
class IngestedRun:
    """What a session makes of one run.

    reports : one for each volume in order, None for a volume that the recording does not have
    betas : of all trials at all stages, in the order in which they were estimated
    registrations : of the volumes that determined where the head is
    """

    reports: list[VolumeReport | None]
    betas: list[TrialBeta]
    registrations: list[RegistrationReport] = field(default_factory=list)

    @property
    def censored_T(self) -> NDArray[np.bool_]:
        """(T,) volumes that the GLM leaves out, missing ones among them."""
        return np.array([report is None or report.censored for report in self.reports])


def open_labelled_runs(
    folders: Sequence[Path], labels: Labels, echo: EchoChoice = None
) -> tuple[list[LabelledRun], tuple[str, ...]]:
    """The runs in these folders, and all labels in them, sorted.

    labels : column of the events that names what was shown
    echo : which of several echoes, or all combined, see ``read_series``

    Raises BadRequest: ``calibration.runs`` for fewer than two runs, ``calibration.labels`` for fewer than two labels or
    a run without any.
    """
    if len(folders) < 2:
        raise BadRequest(
            f"expected two or more runs, so that each can be left out once, got {len(folders)}", code="calibration.runs"
        )
    recorded = [open_run(folder, number, echo=echo) for number, folder in enumerate(folders, 1)]
    runs = [LabelledRun(run, number_trials(run.events, labels)) for run in recorded]
    for run in runs:
        notes = (*run.recorded.notes, *run.trials.notes)
        print_notes(replace(note, text=f"run {run.recorded.run}: {note.text}") for note in notes)
    names = tuple(sorted({label for run in runs for label in run.trials.labels.values()}))
    without = [folder.name for folder, run in zip(folders, runs, strict=True) if not run.trials.labels]
    if len(names) < 2 or without:
        raise BadRequest(
            f"expected two or more different labels in the column {labels} of the runs' events, got {len(names)}"
            + (f", and none in {without[0]}" if without else ""),
            code="calibration.labels",
        )
    return runs, names


def middle_volume(recorded: RecordedRun) -> Volume:
    """The reference: past the first volumes, in which the signal approaches its steady state."""
    return next(itertools.islice(recorded.volumes(), recorded.n_volumes // 2, None))


Report = Callable[[str, float], None]
"""What is being done, and the share of the whole that is done, 0 to 1."""


def silent(what: str, done: float) -> None:
    """Reports nothing."""


def part(report: Report, start: float, end: float) -> Report:
    """A report of what is ``start`` to ``end`` of the whole."""
    return lambda what, done: report(what, start + (end - start) * done)


def ingest_run(session: IngestSession, run: LabelledRun, report: Report = silent) -> IngestedRun:
    """The whole run through the session, from its start to its end.

    Raises BadRequest (``calibration.place``) if the run's head cannot be registered to the session's reference.
    """
    start_run(session, run.recorded, run.trials.events)
    reports: list[VolumeReport | None] = []
    betas: list[TrialBeta] = []
    registrations: list[RegistrationReport] = []
    for volume in run.recorded.volumes():
        betas += fill_gap(session, run.recorded.run, volume.index)
        reports += [None] * (volume.index - len(reports))
        output = session.push(volume)
        report(f"run {run.recorded.run}: motion and betas", volume.index / run.recorded.n_volumes)
        reports.append(output.report)
        betas += output.betas
        registrations += [] if output.registration is None else [output.registration]
    if not any(report is not None and report.aligned for report in reports):
        raise BadRequest(
            f"expected runs of one person, got run {run.recorded.run}, whose head could not be registered to the"
            " first run's. Leave this run out, or check that its images are not flipped",
            code="calibration.place",
        )
    return IngestedRun(reports, betas + session.end_run(run.recorded.run), registrations)


def run_signal(session: IngestSession, run: int, ingested: IngestedRun) -> NDArray[np.float32]:
    """(2, V) of the run's uncensored volumes, see ``measure_signal``."""
    return measure_signal(session.run_series(run)[~ingested.censored_T])


def ingest_runs(
    runs: Sequence[LabelledRun], space: SubjectSpace, options: IngestOptions, report: Report = silent
) -> tuple[list[IngestedRun], Baseline]:
    """Every run, and what the subject's signal is usually like."""
    session = IngestSession(options, space, clock=time.perf_counter)
    all_ingested, signals = [], []
    for k, run in enumerate(runs):
        ingested = ingest_run(session, run, part(report, k / len(runs), (k + 1) / len(runs)))
        all_ingested.append(ingested)
        signals.append(run_signal(session, run.recorded.run, ingested))
    return all_ingested, baseline_of(signals)


def final_betas(run: LabelledRun, ingested: IngestedRun) -> list[TrialBeta]:
    """Of the labelled trials."""
    return [beta for beta in ingested.betas if beta.stage == "final" and beta.trial in run.trials.labels]


def run_trials(run: LabelledRun, betas: Sequence[TrialBeta], index_of: Mapping[str, int]) -> RunTrials:
    """The betas z-scored by their own statistics, with the index in the pool of what each trial showed."""
    z_KV = np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in betas])
    return RunTrials(z_KV, np.array([index_of[run.trials.labels[beta.trial]] for beta in betas]))


def statistics_of(finals: Sequence[Sequence[TrialBeta]]) -> Statistics:
    """Mean and standard deviation of each voxel over all betas of all runs."""
    betas_KV = np.stack([beta.beta_V for betas in finals for beta in betas]).astype(np.float64)
    return Statistics(betas_KV.mean(axis=0).astype(np.float32), betas_KV.std(axis=0).astype(np.float32), len(betas_KV))


def print_notes(notes: Iterable[Note]) -> None:
    """One line each on stderr, with the code."""
    for note in notes:
        print(f"{note.text} [{note.code}]", file=sys.stderr, flush=True)
