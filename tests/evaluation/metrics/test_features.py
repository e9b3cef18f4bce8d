"""Two-way identification, correlation distance and brain correlation, against loops and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import correlation

from mindsight.errors import BadRequest
from mindsight.evaluation import brain_correlation
from mindsight.evaluation.metrics.features import feature_distance, two_way_identification
from mindsight.evaluation.metrics.metric import CLIP, SWAV
from mindsight.evaluation.metrics.similarity import correlation_matrix, cosine_matrix


@pytest.fixture
def features() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Twelve images of 9,001 features (more than one block), half of them kept in the reconstruction."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((12, 9001)).astype(np.float32) + 3
    recons = rng.standard_normal((12, 9001)).astype(np.float32)
    recons[:6] += 0.01 * images[:6]
    return images, recons


def test_two_way_counts_the_images_that_are_less_alike(
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    images, recons = features
    shares = []
    for j in range(12):
        own = np.corrcoef(images[j], recons[j])[0, 1]
        others = [np.corrcoef(images[i], recons[j])[0, 1] for i in range(12) if i != j]
        shares.append(np.mean([other < own for other in others]))
    score = two_way_identification(CLIP, images, recons)
    np.testing.assert_allclose(score.values_K, shares)
    assert 0.0 < min(shares) < max(shares) <= 1.0
    assert len(set(shares)) > 3


def test_two_way_compares_with_other_images_and_not_with_other_reconstructions() -> None:
    # reconstruction 0 is closer to image 0 than any image is, but reconstruction 1 is closer still to image 0
    images = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    recons = np.array([[1.0, 0.5, 0.0, 0.3], [1.0, 0.9, 0.0, 0.0]])
    r = correlation_matrix(images, recons)
    assert r[0, 0] > r[1, 0]
    assert r[0, 1] > r[1, 1]
    np.testing.assert_array_equal(two_way_identification(CLIP, images, recons).values_K, [1.0, 0.0])


def test_a_perfect_output_scores_one_and_a_constant_one_nothing(
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    images = features[0]
    assert two_way_identification(CLIP, images, images).value == 1.0
    assert two_way_identification(CLIP, images, np.full_like(images, 0.1)).value == 0.0
    assert feature_distance(SWAV, images, images).value == pytest.approx(0.0, abs=1e-12)


def test_without_information_two_way_is_one_half() -> None:
    rng = np.random.default_rng(3)
    score = two_way_identification(CLIP, rng.standard_normal((400, 20)), rng.standard_normal((400, 20)))
    low, high = score.interval(rng)
    assert low < 0.5 < high
    assert high - low < 0.08


def test_the_distance_is_scipys(features: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    images, recons = features
    expected = [correlation(image.astype(float), recon.astype(float)) for image, recon in zip(*features, strict=True)]
    np.testing.assert_allclose(feature_distance(SWAV, images, recons).values_K, expected, atol=1e-9)


def test_matrices_equal_numpys_whatever_the_shape_of_a_row() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((4, 5, 7)).astype(np.float16), rng.standard_normal((3, 5, 7)).astype(np.float16)
    flat_a, flat_b = a.reshape(4, -1).astype(float), b.reshape(3, -1).astype(float)
    np.testing.assert_allclose(correlation_matrix(a, b), np.corrcoef(flat_a, flat_b)[:4, 4:], atol=1e-12)
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (flat_a, flat_b)]
    np.testing.assert_allclose(cosine_matrix(a, b), units[0] @ units[1].T, atol=1e-12)


def test_features_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(BadRequest, match="rows of one shape"):
        two_way_identification(CLIP, np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(BadRequest, match="of each of at least two"):
        two_way_identification(CLIP, np.zeros((3, 4)), np.zeros((2, 4)))


def test_brain_correlation_runs_across_the_voxels_of_a_region() -> None:
    rng = np.random.default_rng(9)
    recons = rng.random((6, 8, 8, 3)).astype(np.float32)
    weights = rng.standard_normal((192, 30))
    noise = rng.standard_normal((6, 30))
    betas = recons.reshape(6, -1) @ weights + 0.5 * noise
    v1 = np.arange(30) < 10
    scores = brain_correlation(recons, betas, lambda seen: seen.reshape(6, -1) @ weights, {"V1": v1, "V2": ~v1})
    predicted = recons.reshape(6, -1) @ weights
    for region, mask in (("V1", v1), ("V2", ~v1)):
        expected = [np.corrcoef(predicted[k, mask], betas[k, mask])[0, 1] for k in range(6)]
        np.testing.assert_allclose(scores[region].values_K, expected)
    assert scores["V1"].value != scores["V2"].value
    with pytest.raises(BadRequest, match="of V1"):
        brain_correlation(recons, betas, lambda seen: seen.reshape(6, -1) @ weights, {"V1": v1[:20]})
