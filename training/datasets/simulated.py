"""The runs of a simulated visit, as if they had been recorded."""

from __future__ import annotations

from mindsight.events import RunEvent
from mindsight.ingest.feed import number_trials
from mindsight.scanner import RecordedRun
from mindsight.scanner.formats.files import strictly
from mindsight.scanner.series import Series
from mindsight.simulator.anatomy import GRID
from mindsight.simulator.experiment import RunPlan
from mindsight.simulator.session import SimulatedSession
from training.calibration.runs import LabelledRun


def simulated_runs(visit: SimulatedSession) -> list[LabelledRun]:
    """One for each plan of the visit; a trial's label is the index of its image in the visit's pool, as text.

    Volumes are simulated when they are read, the same ones each time.
    """
    return [_labelled(visit, plan) for plan in visit.plans]


def _labelled(visit: SimulatedSession, plan: RunPlan) -> LabelledRun:
    series = Series(plan.n_volumes, GRID, plan.tr_s, (), lambda on_bad: visit.volumes(plan), strictly)
    events = [RunEvent(shown.onset_s, shown.duration_s, str(shown.candidate)) for shown in plan.shown]
    recorded = RecordedRun(plan.run, series, events, motion_T6=None)
    return LabelledRun(recorded, number_trials(events, "trial_type"))
