"""The density of a new observation is Student's, and Gaussian once there are many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mindsight.errors import ModelMismatch
from mindsight.posterior.student import Predictive


def test_it_is_the_multivariate_t_of_the_textbook() -> None:
    rng = np.random.default_rng(1)
    observations = rng.normal(size=(9, 3)) @ np.array([[2.0, 0.3, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 0.2]])
    new = rng.normal(size=(20, 3)) * 3.0
    found = Predictive.of(observations)
    freedom = 9 - 3 + 1
    expected = stats.multivariate_t(np.zeros(3), observations.T @ observations / freedom, freedom).logpdf(new)
    np.testing.assert_allclose(found.log_density(new), expected, rtol=1e-10)


def test_with_many_observations_it_is_the_gaussian_of_their_covariance() -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    n = 10**6
    new = np.random.default_rng(2).normal(size=(50, 2)) * 2.0
    gaussian = stats.multivariate_normal(np.zeros(2), covariance)
    squares = np.einsum("bp,pq,bq->b", new, np.linalg.inv(covariance), new)
    # log(1 + s / n) is s / n up to s² / 2n², (n + 1) / 2 times; the constants differ by less than P² / n
    tolerance = (np.square(squares) / 4 + squares + 4) / n
    difference = Predictive(n * covariance, n).log_density(new) - gaussian.logpdf(new)
    assert (np.abs(difference) <= tolerance).all()


def test_with_few_observations_what_is_far_off_is_less_improbable() -> None:
    far = np.array([[8.0, 0.0]])
    few, many = (Predictive(n * np.eye(2), n).log_density(far)[0] for n in (6, 6000))
    assert few > many + 10.0


def test_fewer_observations_than_numbers_are_refused() -> None:
    with pytest.raises(ModelMismatch, match="more than 3 trials") as error:
        Predictive.of(np.ones((3, 3)))
    assert error.value.code == "calibration.few"
