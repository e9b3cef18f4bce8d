"""The candidates' probability: Bayes' rule in closed form, for images in the pool and for images in none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mindsight.posterior.errors import DecodingErrors, StageErrors
from mindsight.posterior.hypotheses import weigh
from mindsight.posterior.student import Predictive
from support.decoded import Decoded, simulate

N_POOL, N_TRIALS = 50, 200


def known(error: float, spread: float, n: int = 10**10) -> DecodingErrors:
    """Three numbers decoded without bias; errors and images are Gaussian with these standard deviations."""
    covariances = error**2 * np.eye(3), (error**2 + spread**2) * np.eye(3)
    stages = {"final": StageErrors(*(Predictive(n * covariance, n) for covariance in covariances))}
    zero, one = np.zeros(3, np.float32), np.eye(3, dtype=np.float32)
    return DecodingErrors(zero, one, zero, one, stages)


@pytest.mark.parametrize("prior", [0.1, 0.5, 0.9])
def test_both_hypotheses_have_their_gaussian_posterior(prior: float) -> None:
    rng = np.random.default_rng(3)
    candidates, decoded = rng.normal(size=(4, 3)), rng.normal(size=3)
    found = weigh(known(0.5, 1.0), "final", decoded, candidates, 10, prior)
    each = np.array([stats.multivariate_normal(c, 0.25).pdf(decoded) for c in candidates])
    elsewhere = stats.multivariate_normal(np.zeros(3), 1.25).pdf(decoded)
    evidence = prior * each.sum() / 10 + (1.0 - prior) * elsewhere
    # places are float32, off by 2^-23 of up to 4; a log likelihood changes by residual / variance of that, in 3 numbers
    tolerance = 2.0 * 3.0 * (8.0 / 0.25) * 4.0 * 2.0**-23
    assert found.in_pool == pytest.approx(prior * each.sum() / 10 / evidence, rel=tolerance)
    np.testing.assert_allclose(found.weights_K, each / each.sum(), rtol=tolerance)


@pytest.fixture(scope="module")
def world() -> Decoded:
    return simulate(seed=4)


def shares(world: Decoded, errors: DecodingErrors, pool: np.ndarray, shown: np.ndarray, stage: str) -> np.ndarray:
    """The candidates' share for a trial of each image."""
    decoded = world.decode(shown, stage)
    return np.array([weigh(errors, stage, one, pool, len(pool), 0.5).in_pool for one in decoded])


def test_an_image_in_no_pool_takes_nothing_from_the_candidates(world: Decoded) -> None:
    errors, pool = world.learn(), world.images(N_POOL)
    seen = shares(world, errors, pool, pool[np.arange(N_TRIALS) % N_POOL], "final")
    other = shares(world, errors, pool, world.images(N_TRIALS), "final")
    assert seen.mean() > 0.95
    assert other.mean() < 0.02


@pytest.mark.parametrize("stage", ["fast", "final"])
def test_shares_are_probabilities(world: Decoded, stage: str) -> None:
    """Of trials half of which show candidates, the share is that half, and right where it is between."""
    errors, pool = world.learn(), world.images(N_POOL)
    seen = shares(world, errors, pool, pool[np.arange(N_TRIALS) % N_POOL], stage)
    other = shares(world, errors, pool, world.images(N_TRIALS), stage)
    both = np.concatenate([seen, other])
    standard_error = np.sqrt(np.maximum(both * (1.0 - both), 1e-3).sum()) / len(both)
    assert abs(both.mean() - 0.5) < 4.0 * standard_error + 0.02  # what the fitted map errs by
    brier = np.concatenate([1.0 - seen, other])
    assert np.square(brier).mean() < 0.25 * 0.5  # knowing nothing gives 0.25


def test_candidates_that_are_left_out_lower_the_share(world: Decoded) -> None:
    errors, pool = world.learn(), world.images(N_POOL)
    decoded = world.decode(pool[:1], "fast")[0]
    all_of_them, few = (weigh(errors, "fast", decoded, pool[:k], N_POOL, 0.5) for k in (N_POOL, 3))
    assert few.in_pool <= all_of_them.in_pool
    assert all_of_them.weights_K.sum() == pytest.approx(1.0)
