"""The noise ceiling of betas whose signal is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.evaluation.noise_ceiling import noise_ceiling


def betas(
    share_V: NDArray[np.float64], n_images: int, n_repeats: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Every image once in each of ``n_repeats`` runs; each voxel with this share of signal."""
    rng = np.random.default_rng(seed)
    signal_IV = rng.standard_normal((n_images, len(share_V))) * np.sqrt(share_V)
    image_K, run_K = np.tile(np.arange(n_images), n_repeats), np.repeat(np.arange(n_repeats), n_images)
    noise_KV = rng.standard_normal((len(image_K), len(share_V))) * np.sqrt(1.0 - share_V)
    return (signal_IV[image_K] + noise_KV).astype(np.float32), image_K, run_K


@pytest.mark.parametrize("n_repeats", [2, 5])
def test_the_share_is_that_of_the_signal(n_repeats: int) -> None:
    share_V = np.repeat([0.0, 0.2, 0.6], 400)
    z_KV, image_K, run_K = betas(share_V, 60, n_repeats)
    found = noise_ceiling(z_KV, image_K, run_K)
    assert found is not None
    ceiling, estimated_V = found
    for share in (0.0, 0.2, 0.6):
        assert abs(float(estimated_V[share_V == share].mean()) - share) < 0.03  # unbiased
    assert (ceiling.images, ceiling.trials, ceiling.voxels) == (60, 60 * n_repeats, 1200)
    assert 0.25 < ceiling.reliable_voxels / 1200 < 0.72
    assert ceiling.identified is not None
    assert ceiling.identified.interval[0] > ceiling.identified.chance


def test_betas_without_signal_have_none() -> None:
    z_KV, image_K, run_K = betas(np.zeros(2000), 40, 3)
    found = noise_ceiling(z_KV, image_K, run_K)
    assert found is not None
    ceiling, _ = found
    assert abs(ceiling.signal_share_median) < 0.02
    assert 0.002 < ceiling.reliable_voxels / ceiling.voxels < 0.02  # 1 % by chance
    assert ceiling.identified is not None
    assert ceiling.identified.interval[0] <= ceiling.identified.chance <= ceiling.identified.interval[1]


def test_silent_voxels_are_unknown_and_single_showings_do_not_count() -> None:
    z_KV, image_K, run_K = betas(np.full(50, 0.5), 20, 2)
    z_KV[:, 7] = 0.0
    image_K[:3] = [100, 101, 102]  # their repeats are single now
    found = noise_ceiling(z_KV, image_K, run_K)
    assert found is not None
    assert (found[0].images, found[0].trials, found[0].voxels) == (17, 34, 49)
    assert np.flatnonzero(np.isnan(found[1])).tolist() == [7]
    assert noise_ceiling(z_KV, np.arange(len(z_KV)), run_K) is None
