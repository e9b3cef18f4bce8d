"""One answer's score among those of shuffled betas."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter

from mindsight.retrieval import Calibration, Ranking, fit_temperature


def ranking(scores: np.ndarray, length: float = 1.0) -> Ranking:
    return Ranking(np.argsort(-scores, kind="stable"), scores.astype(np.float32), length)


def null_scores(m: int = 5000, n: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, size=(m, n))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    rng = np.random.default_rng(1)
    right = np.eye(8, dtype=bool)[rng.integers(0, 8, 200)]
    return fit_temperature(rng.normal(0, 0.1, size=(200, 8)) + 0.2 * right, right, null_scores())


def test_shares_are_those_counted_in_the_null(calibration: Calibration) -> None:
    null = null_scores()
    tops = null.max(axis=1)
    for scores in np.random.default_rng(2).normal(0.02, 0.11, size=(50, 8)).astype(np.float32):
        answer = calibration.confidence(ranking(scores))
        first, second = np.sort(scores)[::-1][:2]
        assert answer.margin == pytest.approx(first - second, abs=1e-6)
        assert answer.null_share == pytest.approx((1 + (tops >= first).sum()) / 5001, abs=0.01)
        assert answer.probability == pytest.approx(answer.probabilities_N.max())


def test_shuffled_betas_have_even_shares(calibration: Calibration) -> None:
    """A share of the null is a p value: its own kind is below any level as often as the level says."""
    fresh = np.random.default_rng(9).normal(0, 0.1, size=(4000, 8))
    answers = [calibration.confidence(ranking(scores)) for scores in fresh]
    for level in (0.05, 0.5):
        assert np.mean([a.null_share <= level for a in answers]) == pytest.approx(level, abs=0.02)


def test_no_share_is_zero_and_none_above_one(calibration: Calibration) -> None:
    assert calibration.confidence(ranking(np.array([9.0, *[0.0] * 7]))).null_share == pytest.approx(1 / 5001)
    assert calibration.confidence(ranking(np.full(8, -9.0))).null_share == 1.0


def test_level_quantiles_count_against_the_result() -> None:
    right = np.eye(2, dtype=bool)
    null = np.array([[0.5, 0.0]] * 60 + [[0.9, 0.0]] * 40)
    found = fit_temperature(np.eye(2), right, null)
    assert found.confidence(ranking(np.array([0.5, 0.0]))).null_share == 1.0
    assert found.confidence(ranking(np.array([0.9, 0.0]))).null_share == pytest.approx(41 / 101, abs=0.02)


def test_the_length_of_the_prediction_distinguishes_shuffled_betas() -> None:
    """Shuffled betas predict in any direction, and short. The cosine takes them for answers."""
    rng = np.random.default_rng(4)
    shown = rng.integers(0, 8, 300)
    right = np.eye(8, dtype=bool)[shown]
    predicted = right + 0.35 * rng.normal(size=(300, 8))
    shuffled = 0.15 * rng.normal(size=(3000, 8))
    lengths, null_lengths = (np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted, shuffled))
    cosine = fit_temperature(predicted / lengths, right, shuffled / null_lengths)
    projection = fit_temperature(predicted, right, shuffled, score="projection")
    assert projection.null_confidence < 0.7 * cosine.null_confidence
    assert projection.log_loss < cosine.log_loss
    unit = predicted[0] / lengths[0]
    answer, flat = (c.confidence(ranking(unit, float(lengths[0, 0]))) for c in (projection, cosine))
    assert answer.null_share is not None
    assert flat.null_share is not None
    assert answer.null_share < flat.null_share
    np.testing.assert_allclose(answer.probabilities_N, projection.probabilities(predicted[0]), rtol=1e-5)


def test_a_scale_of_the_embedding_does_not_matter_to_a_projection() -> None:
    rng = np.random.default_rng(6)
    right = np.eye(5, dtype=bool)[rng.integers(0, 5, 100)]
    scores, null = right + 0.5 * rng.normal(size=(100, 5)), 0.2 * rng.normal(size=(100, 5))
    small, large = (fit_temperature(s * scores, right, s * null, score="projection") for s in (1.0, 5000.0))
    assert large.temperature == pytest.approx(5000 * small.temperature)
    assert large.null_confidence == pytest.approx(small.null_confidence)


def test_a_calibration_survives_json_and_an_older_one_names_what_it_lacks(calibration: Calibration) -> None:
    adapter = TypeAdapter(Calibration)
    assert adapter.validate_json(adapter.dump_json(calibration)) == calibration
    older = {name: value for name, value in asdict(calibration).items() if not name.startswith("null_t")}
    older["null_margin"] = [0.0, 1.0]  # kept once, and no longer read
    for name in ("score", "null_n"):
        del older[name]
    loaded = adapter.validate_json(json.dumps(older))
    answer = loaded.confidence(ranking(np.array([0.5, 0.1])))
    assert answer.null_share is None
    assert answer.probability == calibration.confidence(ranking(np.array([0.5, 0.1]))).probability
