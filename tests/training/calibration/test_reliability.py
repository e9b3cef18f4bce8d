"""Which voxels respond to an image alike whenever it is shown; others are left out only where that decodes better."""

from __future__ import annotations

import numpy as np

from mindsight.retrieval import CandidatePool
from training.calibration.fitted import fit_trials
from training.calibration.heads import LinearHead
from training.calibration.left_out import Images
from training.calibration.reliability import MIN_PAIRS, measure_reliability

N, V, REAL = 60, 400, 40
NOISE = 1.5


def trials(seed: int, repeats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-scored betas of which the first ``REAL`` voxels respond, what was shown, and the images' embeddings."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(N, 6)).astype(np.float32)
    image_K = np.concatenate([np.arange(N), rng.permutation(N)[:repeats]])
    weights = rng.normal(size=(6, V)) / np.sqrt(6)
    weights[:, REAL:] = 0.0
    betas = embeddings[image_K] @ weights + NOISE * rng.normal(size=(len(image_K), V))
    return ((betas - betas.mean(0)) / betas.std(0)).astype(np.float32), image_K, embeddings


def test_the_correlation_is_the_share_of_signal_and_the_threshold_keeps_one_silent_voxel_in_five() -> None:
    z_KV, image_K, _ = trials(0, 60)
    found = measure_reliability(z_KV, image_K)
    assert (found.n_pairs, found.n_images) == (60, 60)
    # the share of signal is 1 / (1 + 1.5 ** 2) = 0.31 on average; one voxel's error is 0.13
    assert abs(found.correlation_V[:REAL].mean() - 1 / (1 + NOISE**2)) < 0.08
    assert abs(found.correlation_V[REAL:].mean()) < 0.03
    assert 0.1 < found.reliable_V[REAL:].mean() < 0.3
    assert found.reliable_V[:REAL].mean() > 0.7


def test_a_voxel_that_never_varies_is_not_reliable_and_few_pairs_keep_all() -> None:
    z_KV, image_K, _ = trials(1, 30)
    z_KV[:, 0] = 0.0
    found = measure_reliability(z_KV, image_K)
    assert found.correlation_V[0] == 0.0
    assert not found.reliable_V[0]
    few = measure_reliability(*trials(1, MIN_PAIRS - 1)[:2])
    assert few.reliable_V.all()
    assert measure_reliability(z_KV[:N], image_K[:N]).n_pairs == 0


def test_voxels_are_left_out_only_where_that_decodes_better() -> None:
    z_KV, image_K, embeddings = trials(2, 60)
    pool = CandidatePool(tuple(map(str, range(N))), embeddings)
    head = LinearHead(pool.token_shape)
    images = Images(pool, head.targets(pool))
    noisy = fit_trials(z_KV, image_K, head, images)
    assert noisy.keep_V.sum() < V / 2  # nine in ten voxels are noise
    alone = fit_trials(z_KV[:, :REAL], image_K, head, images)
    assert alone.left_out.log_loss_K.mean() < noisy.left_out.log_loss_K.mean()
    by_run = fit_trials(z_KV, image_K, head, images, np.repeat([1, 2], N))
    assert by_run.keep_V.all()
