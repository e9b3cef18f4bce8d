"""Search in half precision: exact widening, ties, chunks, threads, files, and the pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit, types
from numba.extending import intrinsic

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.retrieval import CandidatePool, cosine_scores, cosines_at, kernels, rank, two_afc
from mindsight.retrieval import dot_products as streaming
from mindsight.retrieval.dot_products import dot_products, widened
from mindsight.retrieval.ranking import best_places
from support.tolerance import rounding


def pool_of(embeddings: np.ndarray) -> CandidatePool:
    return CandidatePool(tuple(f"c{i}" for i in range(len(embeddings))), embeddings)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_every_finite_half_is_widened_exactly() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(widened(halves[None])[0].view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("way", [kernels._extend, kernels._widen_half])
def test_with_and_without_an_instruction_halves_are_widened_exactly(way: Callable[..., Any]) -> None:
    if way is kernels._extend and not kernels._has_instruction():
        pytest.skip("this processor has no instruction that widens half precision")
    wide = intrinsic(lambda _typing, _number: (types.float32(types.uint16), way))
    one = njit(lambda number: wide(number))
    halves = np.arange(0, 65536, 7, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    expected = halves.view(np.float16).astype(np.float32)
    widened_one_by_one = np.array([one(number) for number in halves], np.float32)
    np.testing.assert_array_equal(widened_one_by_one.view(np.uint32), expected.view(np.uint32))


def test_sums_over_all_tokens_stay_exact() -> None:
    """At the resolution of MindEye2, 256 x 1,664, with values as small as those of unit vectors: many are subnormal."""
    rows = (normal(3, 256 * 1664) / 650).astype(np.float16)
    query = normal(1, 256 * 1664, seed=1).astype(np.float32)
    dots, squares = dot_products(query, rows, np.arange(3))
    # in float32 over 8,192 numbers at a time; rows are about as long as one
    close = rounding(8192) * np.linalg.norm(query)
    np.testing.assert_allclose(dots[0], rows.astype(np.float64) @ query[0], rtol=0, atol=close)
    np.testing.assert_allclose(squares, (rows.astype(np.float64) ** 2).sum(1), rtol=rounding(8192))


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.integers(1, 45))
def test_the_best_places_are_those_of_a_stable_sort(levels: list[int], k: int) -> None:
    scores = np.array(levels, np.float32)
    np.testing.assert_array_equal(best_places(scores, k), np.argsort(-scores, kind="stable")[:k])


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_equal_candidates_tie_wherever_they_lie(copies: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(3, 77)).astype(np.float16)
    which = rng.integers(0, 3, copies)
    ranking = rank(rng.normal(size=77), pool_of(kinds[which]), k)
    order = np.argsort(-ranking.scores_N, kind="stable")[:k]
    np.testing.assert_array_equal(ranking.indices_K, order)
    for kind in range(3):
        assert len(set(ranking.scores_N[which == kind].tolist())) <= 1


@given(st.integers(1, 60), st.integers(1, 12), st.sampled_from([np.float16, np.float32]))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_score_alike(rows: int, queries: int, dtype: type) -> None:
    asked = normal(queries, 40, seed=3)
    embeddings = normal(50, 40).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mindsight.retrieval.pool.CHUNK_BYTES", rows * 40 * 4)
        pieces = cosine_scores(asked, pool_of(embeddings))
        digest = pool_of(embeddings).digest
    whole = cosine_scores(asked, pool_of(embeddings))
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=rounding(40))
    assert digest == pool_of(embeddings).digest


def test_threads_and_companions_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = normal(101, 9001).astype(np.float16), normal(4, 9001, seed=1).astype(np.float32)
    alone = np.stack([dot_products(query[None], rows, np.arange(101))[0][0] for query in queries])
    monkeypatch.setattr(streaming, "_BYTES_PER_THREAD", 1)
    monkeypatch.setattr(streaming.config, "NUMBA_NUM_THREADS", 7)
    np.testing.assert_array_equal(dot_products(queries, rows, np.arange(101))[0], alone)
    some = np.array([100, 3, 3, 57])
    np.testing.assert_array_equal(dot_products(queries, rows, some)[0], alone[:, some])


def test_many_queries_score_as_few_do() -> None:
    pool, queries = pool_of(normal(60, 8, 30).astype(np.float16)), normal(25, 8, 30, seed=1)
    one_by_one = np.concatenate([cosine_scores(query[None], pool) for query in queries])
    np.testing.assert_allclose(cosine_scores(queries, pool), one_by_one, rtol=0, atol=rounding(240))
    np.testing.assert_array_equal(cosines_at(queries[:3], pool, np.array([7, 59])), one_by_one[:3][:, [7, 59]])


def test_a_pool_on_the_disk_scores_as_in_memory_and_knows_its_digest(tmp_path: Path) -> None:
    pool = pool_of(normal(40, 6, 20).astype(np.float16))
    pool.save(tmp_path / "pool")
    loaded = CandidatePool.load(tmp_path / "pool")
    query = normal(6, 20, seed=2)
    np.testing.assert_array_equal(rank(query, loaded, 5).scores_N, rank(query, pool, 5).scores_N)
    assert loaded.recorded_digest == pool.digest
    loaded.verify()
    file = tmp_path / "pool" / "pool.safetensors"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ModelMismatch) as error:
        CandidatePool.load(tmp_path / "pool").verify()
    assert error.value.code == "pool.tampered"


def test_a_ranking_carries_the_length_of_its_query() -> None:
    assert rank(np.array([[3.0, 0.0], [0.0, 4.0]]), pool_of(normal(5, 2, 2).astype(np.float32)), 1).length == 5.0


def test_pairs_are_decided_by_the_nearer_one() -> None:
    pool = pool_of(np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [2, 0, 0]], np.float16))
    queries = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [1.0, 0.05, 0.0], [1.0, 0.0, 0.0]])
    pairs = [("c0", "c1"), ("c0", "c1"), ("c1", "c2"), ("c0", "c3")]
    found = two_afc(queries, pool, pairs)
    assert (found.accuracy.hits, found.accuracy.n, found.accuracy.chance) == (2, 4, 0.5)
    assert found.margins_K[0] > 0 > found.margins_K[1]
    assert found.margins_K[3] == 0.0  # the same direction: a tie is no hit
    low, high = found.accuracy.interval
    assert low < 0.5 < high


def test_noise_decides_pairs_by_chance() -> None:
    pool = pool_of(normal(200, 64).astype(np.float16))
    pairs = [(f"c{i}", f"c{(i + 1) % 200}") for i in range(200)]
    low, high = two_afc(normal(200, 64, seed=5), pool, pairs).accuracy.interval
    assert low < 0.5 < high
    assert two_afc(pool.embeddings, pool, pairs).accuracy.value == 1.0


def test_pairs_that_are_none_are_refused() -> None:
    pool, queries = pool_of(normal(4, 3).astype(np.float32)), normal(2, 3)
    with pytest.raises(BadRequest, match="itself"):
        two_afc(queries, pool, [("c0", "c1"), ("c2", "c2")])
    with pytest.raises(BadRequest, match="2 queries"):
        two_afc(queries, pool, [("c0", "c1")])
    with pytest.raises(ModelMismatch, match="absent"):
        two_afc(queries, pool, [("c0", "c1"), ("c0", "absent")])
