"""Candidates seen from a point in their midst: what they have in common no longer counts."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.retrieval import Calibration, CandidatePool, cosine_scores, rank


@pytest.fixture
def crowd() -> tuple[CandidatePool, np.ndarray, np.ndarray]:
    """Twenty candidates that share most of their power, that shared part, and a noisy view of each."""
    rng = np.random.default_rng(0)
    shared = 3.0 * rng.normal(size=(4, 60))
    own = rng.normal(size=(20, 4, 60))
    queries = shared + 0.4 * own + 0.3 * rng.normal(size=(20, 4, 60))
    return CandidatePool(tuple(f"c{i}" for i in range(20)), (shared + own).astype(np.float16)), shared, queries


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n", [1, 3, 20])  # few are scored row by row, many by a matrix product
def test_scores_are_cosines_of_the_differences(
    crowd: tuple[CandidatePool, np.ndarray, np.ndarray], n: int, dtype: type
) -> None:
    pool, shared, queries = crowd
    pool = CandidatePool(pool.ids, pool.embeddings.astype(dtype))
    e = (pool.embeddings.astype(np.float64) - shared).reshape(20, -1)
    q = (queries[:n] - shared).reshape(n, -1)
    expected = q @ e.T / np.linalg.norm(e, axis=1) / np.linalg.norm(q, axis=1)[:, None]
    np.testing.assert_allclose(cosine_scores(queries[:n], pool, shared), expected, atol=2e-6)
    ranking = rank(queries[0], pool, 3, shared)
    np.testing.assert_allclose(ranking.scores_N, expected[0], atol=2e-6)
    assert ranking.length == pytest.approx(np.linalg.norm(q[0]), rel=1e-6)


def test_from_zero_nothing_changes(crowd: tuple[CandidatePool, np.ndarray, np.ndarray]) -> None:
    pool, shared, queries = crowd
    np.testing.assert_allclose(
        cosine_scores(queries, pool, np.zeros_like(shared)), cosine_scores(queries, pool), atol=1e-6
    )


def test_a_candidate_at_the_origin_scores_nothing(crowd: tuple[CandidatePool, np.ndarray, np.ndarray]) -> None:
    pool, _, queries = crowd
    origin = pool.embeddings[7].astype(np.float32)
    for n in (1, 20):
        assert np.abs(cosine_scores(queries[:n], pool, origin)[:, 7]).max() <= 1e-6


def test_what_is_common_hides_what_is_particular(crowd: tuple[CandidatePool, np.ndarray, np.ndarray]) -> None:
    pool, shared, queries = crowd
    margins = []
    for origin in (None, shared):
        best, second = np.sort(cosine_scores(queries, pool, origin), axis=1)[:, -1:-3:-1].T
        margins.append(float((best - second).mean()))
    assert margins[1] > 5 * margins[0]


def test_calibrations_from_before_see_from_zero() -> None:
    assert not Calibration(0.1, 0.2, 1.0, 300).centred
