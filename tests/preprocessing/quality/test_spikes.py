"""Broken volumes are distinguished from good ones, from the volumes after them, and from lasting changes."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.preprocessing.quality.spikes import MAX_IN_A_ROW, SpikeDetector

V = 500


@pytest.fixture
def run() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (1000.0 + rng.normal(0.0, 10.0, (60, V))).astype(np.float32)


def broken(run: np.ndarray) -> list[int]:
    detector = SpikeDetector(V)
    return [t for t, voxels_V in enumerate(run) if detector.push(voxels_V, good=True)]


def test_a_quiet_run_has_none(run: np.ndarray) -> None:
    assert broken(run) == []


def test_a_spike_is_one_volume_and_not_the_one_after_it(run: np.ndarray) -> None:
    run[30, ::2] *= 0.9
    run[45, :60] += 200.0
    assert broken(run) == [30, 45]


def test_a_change_that_stays_is_taken_as_it_is(run: np.ndarray) -> None:
    run[30:] += 150.0
    assert broken(run) == list(range(30, 30 + MAX_IN_A_ROW))


def test_what_a_brain_does_is_no_spike_however_quiet_the_scanner() -> None:
    rng = np.random.default_rng(0)
    run = (1000.0 + rng.normal(0.0, 0.5, (60, V))).astype(np.float32)
    run[30] += 10.0
    assert broken(run) == []


def test_the_first_volumes_are_not_evaluated(run: np.ndarray) -> None:
    run[3] *= 0.9
    assert broken(run) == []


def test_the_state_is_all_there_is(run: np.ndarray) -> None:
    run[30, ::2] *= 0.9
    whole = broken(run)
    detector, found = SpikeDetector(V), []
    for t, voxels_V in enumerate(run):
        restored = SpikeDetector(V)
        restored.load_state(detector.state())
        detector = restored
        if detector.push(voxels_V, good=True):
            found.append(t)
    assert found == whole


def test_noise_that_stays_is_the_scanner_s(run: np.ndarray) -> None:
    run[30:] += np.random.default_rng(1).normal(0.0, 60.0, (30, V))
    assert broken(run) == list(range(30, 30 + MAX_IN_A_ROW))
