"""Runs of archived sessions, labelled by what their session knows each trial showed.

Knows nothing of jobs or of decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mindsight.archive.names import RAWDATA, run_of
from mindsight.archive.read import read_shown
from mindsight.events import Note
from mindsight.ingest.feed import number_trials
from mindsight.retrieval import CandidatePool
from mindsight.scanner import RecordedRun, open_run
from mindsight.subjects.needed import MIN_RUNS, check_labels
from mindsight.volume import Volume
from training.calibration.runs import LabelledRun

_BOLD = "sub-*/ses-*/func/*_bold.nii.gz"


@dataclass(frozen=True, slots=True)
class CountedRun(RecordedRun):
    """A run that tells how many of its volumes have been read. ``tell`` is called with each."""

    tell: Callable[[], None] = lambda: None

    def volumes(self) -> Iterator[Volume]:
        for volume in RecordedRun.volumes(self):
            self.tell()
            yield volume


@dataclass(frozen=True, eq=False)
class ArchivedRuns:
    """The runs in the order of their sessions, numbered from 1; ``names`` are all labels in them, sorted."""

    runs: Sequence[LabelledRun]
    names: tuple[str, ...]
    notes: Sequence[Note]

    @property
    def n_trials(self) -> int:
        return sum(len(run.trials.labels) for run in self.runs)

    @property
    def n_volumes(self) -> int:
        return sum(run.recorded.n_volumes for run in self.runs)


def open_archived(
    archives: Sequence[Path],
    pool: CandidatePool | None,
    tell: Callable[[], None] = lambda: None,
    *,
    as_live: bool = False,
) -> ArchivedRuns:
    """The runs of these archives that have labelled trials.

    pool : its candidates are what trials showed; None: the labels are (``trial_type``)
    tell : called with every volume that is read later
    as_live : one run is enough, and trials that show what is not in the pool have no label

    Raises what ``check_labels`` and reading the runs raise.
    """
    runs: list[LabelledRun] = []
    notes: list[Note] = []
    known = frozenset(pool.ids) if as_live and pool is not None else None
    for archive in archives:
        shown = {trial.key: trial.label if pool is None else trial.candidate for trial in read_shown(archive)}
        for path in sorted((archive / RAWDATA).glob(_BOLD), key=lambda path: run_of(path.name)):
            before, number = run_of(path.name), len(runs) + 1
            recorded = open_run(path, number)
            trials = number_trials(recorded.events, "trial_type")
            labels = {
                n: label
                for n in trials.onsets_s
                if (label := shown.get((before, n))) is not None and (known is None or label in known)
            }
            if not labels:
                notes.append(Note("calibration.run", f"run {before} of a session is left out: no trial has a label"))
                continue
            counted = CountedRun(
                recorded.run,
                recorded.series,
                recorded.events,
                recorded.motion_T6,
                recorded.motion_order,
                recorded.notes,
                tell,
            )
            runs.append(LabelledRun(counted, replace(trials, labels=labels)))
            notes += [replace(note, text=f"run {number}: {note.text}") for note in (*recorded.notes, *trials.notes)]
    labels_of_runs = [list(run.trials.labels.values()) for run in runs]
    check_labels(labels_of_runs, None if pool is None else pool.ids, min_runs=1 if as_live else MIN_RUNS)
    names = tuple(sorted({label for run in runs for label in run.trials.labels.values()}))
    return ArchivedRuns(runs, names, notes)
