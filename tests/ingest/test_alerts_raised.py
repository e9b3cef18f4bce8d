"""Alerts on a simulated run: spike and jump are reported once each, and end; a quiet run raises none."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mindsight.ingest import IngestOptions, IngestSession
from mindsight.simulator.experiment import Design, RunPlan, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise, SimulatedScanner

TOKENS_NTD = np.random.default_rng(0).normal(size=(20, 16, 64))


@pytest.fixture(scope="module")
def plan() -> RunPlan:
    return plan_runs(Design(trials_per_run=12, repeats_per_run=1), 1, 20, seed=3)[0]


def alerts_of(plan: RunPlan, noise: Noise) -> tuple[list[str], list[int]]:
    """Codes of the alerts of one run, and its censored volumes."""
    participant = Participant(2, TOKENS_NTD, n_voxels=300)
    session = IngestSession(IngestOptions(), clock=time.perf_counter)
    session.start_run(1, plan.tr_s, plan.n_volumes)
    reports = [
        session.push(volume).report
        for volume in SimulatedScanner(participant, 5, noise).run(plan, participant.responses(TOKENS_NTD))
    ]
    return [a.code for r in reports for a in r.alerts], [t for t, r in enumerate(reports) if r.censored]


def test_a_quiet_run_raises_no_alert(plan: RunPlan) -> None:
    assert alerts_of(plan, Noise(jumps=0, spikes=0)) == ([], [])


def test_a_spike_is_reported_once_and_only_it_is_left_out(plan: RunPlan) -> None:
    codes, censored = alerts_of(plan, Noise(jumps=0, spikes=1))
    assert len(censored) == 1
    assert codes.count("quality.spike") == 1
    assert "quality.tsnr" not in codes
