"""A simulated visit as recorded runs: the same volumes, and labels that name what was shown."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.simulator.experiment import Design
from mindsight.simulator.participant import Participant
from mindsight.simulator.session import SimulatedSession
from training.datasets.simulated import simulated_runs


def embed(images_NHW3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 16, 3) mean colour of a 4 x 4 grid of squares."""
    n, size = images_NHW3.shape[:2]
    return images_NHW3.reshape(n, 4, size // 4, 4, size // 4, 3).mean(axis=(2, 4)).reshape(n, 16, 3) / 255.0


@pytest.fixture(scope="module")
def visit() -> SimulatedSession:
    population = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype(np.uint8)
    return SimulatedSession(
        embed, Participant(3, embed(population), n_voxels=600), image_px=16, pool_seed=1, n_pool=12, seed=5, n_runs=2,
        design=Design(trials_per_run=3, repeats_per_run=1),
    )  # fmt: skip


def test_labels_name_the_image_of_each_trial(visit: SimulatedSession) -> None:
    for run, plan in zip(simulated_runs(visit), visit.plans, strict=True):
        assert run.recorded.run == plan.run
        assert run.trials.labels == {shown.trial: str(shown.candidate) for shown in plan.shown}
        assert [(event.onset_s, event.duration_s, event.trial) for event in run.trials.events] == [
            (shown.onset_s, shown.duration_s, shown.trial) for shown in plan.shown
        ]


def test_volumes_are_the_visits_each_time_they_are_read(visit: SimulatedSession) -> None:
    recorded, plan = simulated_runs(visit)[1].recorded, visit.plans[1]
    assert (recorded.n_volumes, recorded.tr_s, recorded.motion_T6) == (plan.n_volumes, plan.tr_s, None)
    expected = list(visit.volumes(plan))
    for _ in range(2):
        volumes = list(recorded.volumes())
        assert [volume.index for volume in volumes] == list(range(plan.n_volumes))
        for volume, other in zip(volumes, expected, strict=True):
            np.testing.assert_array_equal(volume.data, other.data)
