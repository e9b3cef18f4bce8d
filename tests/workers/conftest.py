"""A bus and workers of this data folder, as processes; inputs written as the gateway writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mindsight.simulator.experiment import Design, RunPlan, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import SimulatedScanner
from mindsight.volume import Volume
from support.house import House, opened


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with opened(tmp_path / "data") as house:
        yield house


@pytest.fixture(scope="module")
def lasting_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all tests of a file: each has sessions of its own."""
    with opened(tmp_path_factory.mktemp("house") / "data") as house:
        yield house


@pytest.fixture(scope="session")
def plan() -> RunPlan:
    return plan_runs(Design(trials_per_run=6, repeats_per_run=1, lead_in_s=3.0, tail_s=12.0), 1, 20, seed=3)[0]


@pytest.fixture(scope="session")
def volumes(plan: RunPlan) -> list[Volume]:
    """A short simulated run."""
    tokens_NTD = np.random.default_rng(0).normal(size=(20, 16, 64))
    participant = Participant(2, tokens_NTD, n_voxels=400)
    return list(SimulatedScanner(participant, 5).run(plan, participant.responses(tokens_NTD)))
