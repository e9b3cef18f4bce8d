"""Feeding a recorded run to an ingest session: its trials, its start, its gaps.

Knows nothing of files or of pace: it is given a recorded run, and the caller pushes volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindsight.events import Note, RunEvent, declare
from mindsight.glm import Event
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.session import IngestSession
from mindsight.scanner import RecordedRun


@dataclass(frozen=True, slots=True)
class Trials:
    """A run's trials.

    events : for the GLM
    labels : what each trial showed, if the run states it
    onsets_s : of each trial
    notes : on the events, for the operator
    """

    events: tuple[Event, ...]
    labels: dict[int, str]
    onsets_s: dict[int, float]
    notes: tuple[Note, ...] = ()


def number_trials(events: Sequence[RunEvent], column: str | None) -> Trials:
    """The trials of a run, by the one rule of ``mindsight.events``.

    column : source of ``labels``: ``trial_type``, or anything else for the image (``stim_file``); a trial without it
        has a number and no label
    """
    declared = declare(events)
    trials = [(event, event.trial) for event in declared.events if event.trial is not None]
    shown = [(number, event.label if column == "trial_type" else event.stim_file) for event, number in trials]
    return Trials(
        events=tuple(Event(event.onset_s, event.duration_s, event.trial) for event in declared.events),
        labels={number: label for number, label in shown if label is not None},
        onsets_s={number: event.onset_s for event, number in trials},
        notes=declared.notes,
    )


def start_run(session: IngestSession, recorded: RecordedRun, events: Sequence[Event]) -> None:
    """Start a recorded run in a session, with its motion parameters, and declare all its events."""
    session.start_run(
        recorded.run,
        recorded.tr_s,
        recorded.n_volumes,
        motion_order=recorded.motion_order,
        brings_motion=recorded.motion_T6 is not None,
    )
    for event in events:
        session.add_event(recorded.run, event)


def fill_gap(session: IngestSession, run: int, index: int) -> list[TrialBeta]:
    """Mark the volumes that the recording lacks before ``index`` as missing; returns the betas due meanwhile."""
    betas = []
    while session.n_volumes < index:
        betas += session.mark_missing(run, session.n_volumes)
    return betas
