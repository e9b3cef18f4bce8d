"""Controls move what they say and nothing else; splits keep clusters together; intervals know clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.accuracy import wilson_interval
from mindsight.errors import BadRequest
from mindsight.evaluation.controls import exchanged, noise_tokens
from mindsight.evaluation.metrics.metric import CLIP, Score, cluster_interval
from mindsight.evaluation.splits import cluster_folds, near_duplicates, require_disjoint


@given(st.lists(st.integers(2, 6), min_size=1, max_size=5), st.integers(0, 100))
@settings(deadline=None, max_examples=40)
def test_every_beta_moves_within_its_run(sizes: list[int], seed: int) -> None:
    runs = np.repeat(np.arange(len(sizes)), sizes)
    betas = np.arange(len(runs), dtype=float)[:, None] * [1.0, 10.0]
    shuffled = betas[exchanged(runs, np.random.default_rng(seed))]
    assert np.all(shuffled[:, 0] != betas[:, 0])
    for run in range(len(sizes)):
        assert sorted(shuffled[runs == run, 0]) == sorted(betas[runs == run, 0])
    np.testing.assert_array_equal(shuffled[:, 1], 10 * shuffled[:, 0])


def test_a_run_of_one_cannot_be_shuffled() -> None:
    with pytest.raises(BadRequest, match="at least two trials"):
        exchanged(np.array([0, 0, 1]), np.random.default_rng(0))


def test_noise_has_the_tokens_statistics_and_none_of_their_content() -> None:
    rng = np.random.default_rng(2)
    tokens = (rng.standard_normal((4000, 2, 3)) * [1.0, 2.0, 5.0] + [0.0, 3.0, -1.0]).astype(np.float32)
    noise = noise_tokens(tokens, rng)
    np.testing.assert_allclose(noise.mean(axis=0), tokens.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(noise.std(axis=0), tokens.std(axis=0), rtol=0.05)
    assert abs(np.corrcoef(noise[:, 0, 2], tokens[:, 0, 2])[0, 1]) < 0.06


def test_near_duplicates_are_found_through_chains() -> None:
    rng = np.random.default_rng(3)
    alone, a = rng.standard_normal((2, 200))
    b = a + 0.3 * rng.standard_normal(200)
    c = b + 0.3 * rng.standard_normal(200)
    embeddings = np.stack([a, alone, c, b])

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    between = (cosine(a, c) + min(cosine(a, b), cosine(b, c))) / 2  # a and c are joined by b only
    clusters = near_duplicates(embeddings, between)
    assert clusters[0] == clusters[2] == clusters[3] != clusters[1]


def test_folds_keep_clusters_together_and_are_even() -> None:
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 40, size=200)
    folds = cluster_folds(clusters, 5, rng)
    for cluster in np.unique(clusters):
        assert len(set(folds[clusters == cluster])) == 1
    sizes = np.bincount(folds)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 4
    assert not np.array_equal(folds, cluster_folds(clusters, 5, rng))
    with pytest.raises(BadRequest, match="between 2 and 2 folds"):
        cluster_folds(np.array([0, 1, 1]), 3, rng)


def test_an_image_on_both_sides_is_refused() -> None:
    require_disjoint({1, 2}, {3})
    with pytest.raises(BadRequest, match="2 on both sides") as caught:
        require_disjoint({1, 2, 3}, {2, 3, 4})
    assert caught.value.code == "split.leak"


def test_copies_of_an_image_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(5)
    values = rng.random(60)
    clusters = np.arange(60)
    low, high = cluster_interval(values, clusters, rng)
    copied_low, copied_high = cluster_interval(np.repeat(values, 9), np.repeat(clusters, 9), rng)
    assert copied_high - copied_low == pytest.approx(high - low, rel=0.1)
    naive_low, naive_high = cluster_interval(np.repeat(values, 9), np.arange(540), rng)
    assert naive_high - naive_low == pytest.approx((high - low) / 3, rel=0.15)
    # about what theory says
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(60), rel=0.1)


def test_all_hits_are_not_certainty() -> None:
    rng = np.random.default_rng(6)
    clusters = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    assert Score(CLIP, np.ones(8)).interval(rng, clusters) == pytest.approx(wilson_interval(6, 6))
    assert Score(CLIP, np.zeros(8)).interval(rng) == pytest.approx(wilson_interval(0, 8))
