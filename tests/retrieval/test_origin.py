"""Candidates seen from a point in their midst: what they have in common no longer counts."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.retrieval import Calibration, CandidatePool, cosine_scores, cosines_at, rank
from support.tolerance import rounding


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
    # e q - o q and |e|^2 - 2 e o + |o|^2 lose what e and o have in common
    condition = (
        (np.linalg.norm(e + shared.reshape(-1), axis=1) + np.linalg.norm(shared)) / np.linalg.norm(e, axis=1)
    ).max()
    close = rounding(240, condition=condition**2)
    np.testing.assert_allclose(cosine_scores(queries[:n], pool, shared), expected, rtol=0, atol=close)
    ranking = rank(queries[0], pool, 3, shared)
    np.testing.assert_allclose(ranking.scores_N, expected[0], rtol=0, atol=close)
    assert ranking.length == pytest.approx(np.linalg.norm(q[0]), rel=rounding(240))


def test_from_zero_nothing_changes(crowd: tuple[CandidatePool, np.ndarray, np.ndarray]) -> None:
    pool, shared, queries = crowd
    np.testing.assert_allclose(
        cosine_scores(queries, pool, np.zeros_like(shared)), cosine_scores(queries, pool), rtol=0, atol=rounding(240)
    )


def stepped(values: np.ndarray, ulps: int) -> np.ndarray:
    """Every number that many units in the last place further out."""
    for _ in range(ulps):
        values = np.nextafter(values, np.copysign(np.inf, values))
    return values


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float16, 0), (np.float16, 1), (np.float32, 0), (np.float32, 3)])
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_at_the_origin_scores_nothing(dtype: type, ulps: int, n: int, seed: int) -> None:
    """Where one stands is where nothing can be seen in any direction: not by luck of what the processor rounds to."""
    rng = np.random.default_rng(seed)
    embeddings = (10.0 ** (seed - 1) * (3.0 + rng.normal(size=(20, 4, 60)))).astype(dtype)
    origin = embeddings[7].astype(np.float32)
    embeddings[[3, 7]] = stepped(embeddings[7], ulps)
    pool, queries = CandidatePool(tuple(f"c{i}" for i in range(20)), embeddings), rng.normal(size=(n, 4, 60))
    scores = cosine_scores(queries, pool, origin)
    assert not scores[:, [3, 7]].any()
    assert scores[:, np.setdiff1d(np.arange(20), [3, 7])].all()
    assert not cosines_at(queries, pool, np.array([7, 0, 3]), origin)[:, [0, 2]].any()
    assert rank(queries[0], pool, 5, origin).scores_N[7] == 0


@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("ulps", [0, 1, 3])
def test_a_query_at_the_origin_is_like_nothing(
    crowd: tuple[CandidatePool, np.ndarray, np.ndarray], n: int, ulps: int
) -> None:
    pool, shared, queries = crowd
    origin, queries = shared.astype(np.float32), queries[:n].astype(np.float32)
    queries[0] = stepped(origin, ulps)
    scores = cosine_scores(queries, pool, origin)
    assert not scores[0].any()
    assert scores[1:].all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n", [1, 20])
def test_a_candidate_near_the_origin_is_seen_in_its_direction(dtype: type, n: int) -> None:
    """Ten times further away than noise: what a difference of sums would give there is noise, the cosine is not."""
    rng = np.random.default_rng(5)
    step = 20 * np.finfo(dtype).eps * (8 if dtype is np.float32 else 1)
    origin = rng.choice([-1.0, 1.0], 240).astype(np.float32)
    embeddings = rng.normal(size=(20, 240)).astype(dtype)
    embeddings[7] = origin + step * rng.integers(-2, 3, 240)
    queries = rng.normal(size=(n, 240)).astype(np.float32)
    e, q = embeddings[7].astype(np.float64) - origin, queries.astype(np.float64) - origin
    expected = q @ e / np.linalg.norm(e) / np.linalg.norm(q, axis=1)
    found = cosine_scores(queries, CandidatePool(tuple(map(str, range(20))), embeddings), origin)[:, 7]
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(240))


def test_what_is_common_hides_what_is_particular(crowd: tuple[CandidatePool, np.ndarray, np.ndarray]) -> None:
    pool, shared, queries = crowd
    margins = []
    for origin in (None, shared):
        best, second = np.sort(cosine_scores(queries, pool, origin), axis=1)[:, -1:-3:-1].T
        margins.append(float((best - second).mean()))
    assert margins[1] > 5 * margins[0]


def test_calibrations_from_before_see_from_zero() -> None:
    assert not Calibration(0.1, 0.2, 1.0, 300).centred
