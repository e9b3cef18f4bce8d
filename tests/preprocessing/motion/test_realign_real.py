"""Against what others found: SPM's trace of a real run, and simulated volumes with known motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from mindsight.preprocessing import Aligned, Quality, Realigner, brain_mask
from mindsight.volume import Volume
from support.phantoms import Truth


@pytest.fixture(scope="module")
def run(trio: list[Volume]) -> list[Aligned]:
    realigner = Realigner(trio[0])
    return [realigner.align(volume) for volume in trio]


def test_a_real_run_follows_spms_trace(run: list[Aligned], shared: Path) -> None:
    spm_T6 = loadmat(shared / "data" / "trio_run155" / "spm_motion.mat")["mc_series_matlab"].astype(np.float64)
    assert all(aligned.converged for aligned in run)
    for axis in range(3):
        ours = np.array([aligned.rotation_rad[axis] for aligned in run])
        theirs = spm_T6[:, 3 + axis]
        r = np.corrcoef(ours, theirs)[0, 1]
        assert abs(r) >= 0.95
        assert np.degrees(np.abs(ours - np.sign(r) * theirs).max()) <= 0.1
    for axis in range(3):
        ours = np.array([aligned.translation_mm[axis] for aligned in run])
        assert abs(np.corrcoef(ours, spm_T6[:, axis])[0, 1]) >= 0.9


def test_realignment_raises_the_tsnr_of_a_real_run(run: list[Aligned], trio: list[Volume]) -> None:
    mask = brain_mask(trio[0].data)
    before, after = Quality(int(mask.sum())), Quality(int(mask.sum()))
    for volume, aligned in zip(trio, run, strict=True):
        raw = before.push(volume.data[mask], np.zeros(6))
        corrected = after.push(aligned.sample(mask), aligned.motion_6)
    assert raw.tsnr is not None
    assert corrected.tsnr is not None
    assert corrected.tsnr > 1.01 * raw.tsnr


def test_known_motion_is_found_to_a_few_micrometres(typical: Truth) -> None:
    realigner = Realigner(typical.volumes[0])
    points = typical.points()
    estimated = [realigner.align(volume).rigid for volume in typical.volumes]
    apart = [np.linalg.norm(((a - b) @ points)[:3], axis=0) for a, b in zip(estimated, typical.rigid_T44, strict=True)]
    assert np.mean(apart[1:]) <= 0.007
    assert np.max(apart[1:]) <= 0.03
    jitter = []
    for t in range(2, len(estimated)):
        ours = estimated[t] @ np.linalg.inv(estimated[t - 1])
        true = typical.rigid_T44[t] @ np.linalg.inv(typical.rigid_T44[t - 1])
        jitter.append(np.linalg.norm(((ours - true) @ points)[:3], axis=0).mean())
    assert np.mean(jitter) <= 0.003
