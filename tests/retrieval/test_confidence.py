"""Probabilities that are as often right as they say."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.errors import ModelMismatch
from mindsight.retrieval import fit_temperature, softmax


def drawn(temperature: float, k: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and truths drawn with the probabilities that these scores mean at that temperature."""
    rng = np.random.default_rng(5)
    scores = rng.uniform(-1, 1, size=(k, n))
    truth = np.array([rng.choice(n, p=p) for p in softmax(scores, temperature)])
    return scores, np.eye(n, dtype=bool)[truth]


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_the_temperature_is_found_again(temperature: float) -> None:
    scores, right = drawn(temperature, 4000)
    found = fit_temperature(scores, right, scores)
    assert found.temperature == pytest.approx(temperature, rel=0.25)
    probabilities = found.probabilities(scores)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    best = probabilities.argmax(axis=1)
    hits = right[np.arange(len(right)), best]
    assert probabilities.max(axis=1).mean() == pytest.approx(hits.mean(), abs=0.03)


def test_scores_that_say_nothing_get_even_probabilities() -> None:
    scores, right = drawn(0.1, 400)
    shuffled = right[np.random.default_rng(0).permutation(400)]
    assert fit_temperature(scores, shuffled, scores).null_confidence < 0.25


def test_a_trial_without_its_candidate_is_refused() -> None:
    scores, right = drawn(1.0, 5)
    right[2] = False
    with pytest.raises(ModelMismatch, match="right candidate"):
        fit_temperature(scores, right, scores)


def test_where_all_of_a_few_trials_were_right_noise_is_not_certain() -> None:
    """Twenty answers that are right by a wide margin, among 50: what fits them best is a temperature of nothing."""
    rng = np.random.default_rng(0)
    right = np.eye(50, dtype=bool)[rng.integers(0, 50, 20)]
    scores, null = 0.5 * right + 0.05 * rng.normal(size=(20, 50)), 0.05 * rng.normal(size=(400, 50))
    found = fit_temperature(scores, right, null)
    assert softmax(null, 1e-3).max(axis=1).mean() > 0.9  # at that temperature
    assert found.null_confidence < 0.3
    assert found.probabilities(scores)[right].mean() > 0.95
    # and with many trials one of nothing is no matter
    scores, right = drawn(0.3, 4000)
    assert fit_temperature(scores, right, null[:, :6]).temperature == pytest.approx(0.3, rel=0.1)
