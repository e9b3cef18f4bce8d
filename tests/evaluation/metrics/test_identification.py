"""Retrieval both ways: the direction trap, the draws, and the exact probability, against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.evaluation import retrieval
from mindsight.evaluation.metrics.identification import retrieval_of


def test_each_way_is_labelled_by_what_is_ranked() -> None:
    # image 0 looks like every brain sample: given a brain sample it beats the right image, given an image it
    # takes nothing away from the right brain sample
    cosines = np.array([[0.9, 0.1, 0.1], [0.8, 0.5, 0.1], [0.7, 0.1, 0.4]])  # brain samples x images
    found = retrieval_of(cosines, np.random.default_rng(0), pool=3, draws=2)
    np.testing.assert_array_equal(found.images_ranked.values_K, [1, 0, 0])
    np.testing.assert_array_equal(found.brains_ranked.values_K, [1, 1, 1])
    assert found.images_ranked.value == pytest.approx(1 / 3)
    assert found.brains_ranked.value == 1.0
    assert (found.images_ranked.ranked, found.images_ranked.published_column) == ("images", "Brain")
    assert (found.brains_ranked.ranked, found.brains_ranked.published_column) == ("brain samples", "Image")


def test_the_published_directions_are_reproduced_from_tokens() -> None:
    """The published code's figures, spelled out: its similarity helper returns the transpose of what it is asked."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((40, 3, 5))
    brain = images + 1.5 * rng.standard_normal((40, 3, 5))
    brain[:, 0] += 2.0  # makes the two directions differ
    units = [x.reshape(40, -1) / np.linalg.norm(x.reshape(40, -1), axis=1, keepdims=True) for x in (brain, images)]
    helper = (units[0] @ units[1].T).T  # asked for (brain, clip), gives [clip, brain]
    published_fwd = (helper.argmax(axis=1) == np.arange(40)).mean()  # the column "Image"
    published_bwd = (helper.T.argmax(axis=1) == np.arange(40)).mean()  # the column "Brain"
    found = retrieval(brain, images, rng, pool=40, draws=1)
    assert published_fwd != published_bwd
    assert found.brains_ranked.value == published_fwd
    assert found.images_ranked.value == published_bwd


def test_draws_and_the_exact_probability_equal_brute_force() -> None:
    cosines = np.random.default_rng(4).standard_normal((9, 9)) + 1.2 * np.eye(9)
    found = retrieval_of(cosines, np.random.default_rng(11), pool=4, draws=30).images_ranked

    same = np.random.default_rng(11)
    drawn = [same.choice(9, size=4, replace=False) for _ in range(30)]
    shares = [np.mean([cosines[q, d].argmax() == list(d).index(q) for q in d]) for d in drawn]
    np.testing.assert_allclose(found.draws_R, shares)
    assert found.value == pytest.approx(np.mean(shares))
    sem = np.std(shares) / np.sqrt(30)
    assert found.draws_interval == pytest.approx((found.value - 1.959964 * sem, found.value + 1.959964 * sem))

    for q in range(9):
        pools = [p for p in combinations(range(9), 4) if q in p]
        hits = [max(p, key=lambda candidate: cosines[q, candidate]) == q for p in pools]
        assert found.values_K[q] == pytest.approx(np.mean(hits))
    assert 0.2 < found.values_K.mean() < 0.9


def test_noise_is_at_chance_and_the_interval_over_images_includes_chance() -> None:
    rng = np.random.default_rng(8)
    found = retrieval(rng.standard_normal((500, 30)), rng.standard_normal((500, 30)), rng, pool=20, draws=600)
    for score in (found.images_ranked, found.brains_ranked):
        low, high = score.interval(rng)
        assert low < 1 / 20 < high
        assert score.metric.chance == 1 / 20
        # more draws of the same images do not make the images more
        drawn_low, drawn_high = score.draws_interval
        assert drawn_high - drawn_low < high - low


def test_ties_are_missed() -> None:
    found = retrieval(np.ones((5, 3)), np.ones((5, 3)), np.random.default_rng(0), pool=5, draws=1)
    assert found.images_ranked.value == found.brains_ranked.value == 0.0
    np.testing.assert_array_equal(found.images_ranked.values_K, 0.0)


def test_a_pool_larger_than_the_test_set_is_refused() -> None:
    with pytest.raises(BadRequest, match="at least 300 images"):
        retrieval(np.ones((20, 3)), np.ones((20, 3)), np.random.default_rng(0))
