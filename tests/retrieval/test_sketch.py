"""The sketch: orthogonal, unbiased with the error it claims, and a short list that keeps the right ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.errors import ModelMismatch
from mindsight.retrieval import CandidatePool, ReducedIndex, cosine_scores, rank
from mindsight.weights.tensors import map_tensors, write_tensors


def similar_pool(n: int = 1500, numbers: int = 8192, common: float = 0.5) -> tuple[CandidatePool, np.ndarray]:
    """Candidates that share half of their power, the rest mostly in 60 factors that fall off; and their own parts."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, 61) ** -0.5
    scales /= np.linalg.norm(scales)
    own = (rng.normal(size=(n, 60)) * scales) @ rng.normal(size=(60, numbers))
    own = np.sqrt(1 - common) * (np.sqrt(0.8) * own + np.sqrt(0.2) * rng.normal(size=(n, numbers)))
    embeddings = np.sqrt(common) * rng.normal(size=numbers) + own
    return CandidatePool(tuple(map(str, range(n))), embeddings.astype(np.float16)), own


@pytest.fixture(scope="module")
def case() -> tuple[CandidatePool, np.ndarray, ReducedIndex]:
    pool, own = similar_pool()
    return pool, own, ReducedIndex.build(pool, np.random.default_rng(1), 1024)


@pytest.mark.slow
def test_the_projection_is_orthogonal(case: tuple[CandidatePool, np.ndarray, ReducedIndex]) -> None:
    index = case[2]
    assert set(np.bincount(index.slot_D // 2, minlength=1024).tolist()) == {8}  # so that rows are disjoint and equal
    assert 0.45 < (index.slot_D % 2).mean() < 0.55


@pytest.mark.slow
def test_sketches_are_the_signed_sums(case: tuple[CandidatePool, np.ndarray, ReducedIndex]) -> None:
    pool, _, index = case
    unit = pool.embeddings[7].astype(np.float64)
    unit /= np.linalg.norm(unit)
    expected = np.zeros(1024)
    np.add.at(expected, index.slot_D // 2, np.where(index.slot_D % 2, -1.0, 1.0) * unit)
    np.testing.assert_allclose(index.sketches_NM[7], expected, atol=1e-4)


def test_estimates_are_unbiased_with_the_stated_error() -> None:
    """One pair of vectors, many projections."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=2000)
    b = 0.6 * a + 0.8 * rng.normal(size=2000)
    pool = CandidatePool(("b",), b[None].astype(np.float32))
    exact = float(cosine_scores(a[None], pool)[0, 0])
    found = np.array([ReducedIndex.build(pool, rng, 100).estimates(a)[0] for _ in range(400)])
    stated = np.sqrt((1 + exact**2) / 100)
    assert found.mean() == pytest.approx(exact, abs=4 * stated / 20)
    assert found.std() == pytest.approx(stated, rel=0.15)


@pytest.mark.parametrize("fidelity", [0.2, 0.6])
def test_the_short_list_keeps_the_best(case: tuple[CandidatePool, np.ndarray, ReducedIndex], fidelity: float) -> None:
    pool, own, index = case
    rng = np.random.default_rng(4)
    common = pool.embeddings.astype(np.float64) - own
    kept = 0
    for i in rng.choice(len(pool), 20, replace=False):
        query = common[0] + fidelity * own[i] + np.sqrt(1 - fidelity**2) * own[rng.integers(len(pool))]
        exact, short = rank(query, pool, 10), index.rank(query, 10, shortlist=150)
        kept += len(set(exact.indices_K) & set(short.indices_K))
        np.testing.assert_array_equal(short.scores_N[short.indices_K], exact.scores_N[short.indices_K])
        assert np.abs(short.scores_N - exact.scores_N).max() < 6 * np.sqrt(2 / 1024)
        assert short.length == exact.length
    assert kept >= 190  # of 200


def test_a_short_list_of_all_is_the_exact_search(case: tuple[CandidatePool, np.ndarray, ReducedIndex]) -> None:
    pool, _, index = case
    query = np.random.default_rng(5).normal(size=8192)
    exact, short = rank(query, pool, 30), index.rank(query, 30, shortlist=len(pool))
    np.testing.assert_array_equal(short.indices_K, exact.indices_K)
    np.testing.assert_array_equal(short.scores_N, exact.scores_N)


def test_an_index_survives_its_file_and_knows_its_pool(
    tmp_path: Path, case: tuple[CandidatePool, np.ndarray, ReducedIndex]
) -> None:
    pool, _, index = case
    index.save(tmp_path / "index.safetensors")
    loaded = ReducedIndex.load(tmp_path / "index.safetensors", pool)
    query = np.random.default_rng(6).normal(size=8192)
    np.testing.assert_array_equal(loaded.rank(query, 5).indices_K, index.rank(query, 5).indices_K)
    other = CandidatePool(pool.ids, pool.embeddings[::-1])
    with pytest.raises(ModelMismatch) as error:
        ReducedIndex.load(tmp_path / "index.safetensors", other)
    assert error.value.code == "pool.index"
    with pytest.raises(ModelMismatch, match="8192 numbers"):
        index.rank(query[1:], 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"slots": np.full(8192, 2048, np.int32)},
        {"slots": np.full(8192, -1, np.int32)},
        {"slots": np.zeros(8191, np.int32)},
        {"slots": np.zeros(8192, np.float32)},
        {"sketches": np.zeros((1499, 1024), np.float16)},
        {"sketches": np.zeros(1500, np.float16)},
        {"sketches": np.zeros((1500, 1024), np.int32)},
    ],
)
def test_an_index_that_would_be_read_or_written_past_its_end_is_refused(
    tmp_path: Path, case: tuple[CandidatePool, np.ndarray, ReducedIndex], changed: dict[str, np.ndarray]
) -> None:
    pool, _, index = case
    index.save(tmp_path / "index.safetensors")
    tensors = {name: np.array(held) for name, held in map_tensors(tmp_path / "index.safetensors").items()}
    write_tensors(tmp_path / "index.safetensors", {**tensors, **changed})
    with pytest.raises(ModelMismatch) as error:
        ReducedIndex.load(tmp_path / "index.safetensors", pool)
    assert error.value.code == "model.file"


def test_a_candidate_without_length_is_far_from_everything() -> None:
    pool = CandidatePool(("zero", "one"), np.array([[0.0] * 8, [1.0] * 8], np.float32))
    index = ReducedIndex.build(pool, np.random.default_rng(0), 8)
    zero, one = index.estimates(np.ones(8))
    assert zero == 0
    assert one == pytest.approx(1.0, abs=float(np.finfo(np.float16).eps))  # sketches are kept in half precision
    np.testing.assert_array_equal(index.estimates(np.zeros(8)), [0.0, 0.0])
    assert index.rank(np.ones(8), 1).scores_N[0] == 0


def test_what_is_asked_for_is_compared_in_full_and_nothing_unseen_stands_above(
    case: tuple[CandidatePool, np.ndarray, ReducedIndex],
) -> None:
    pool, own, index = case
    query = own[3] + 0.5 * own[900]
    exact = cosine_scores(query[None], pool)[0]
    worst = int(np.argmin(exact))
    ranking = index.rank(query, 5, shortlist=8, also={worst, 7})
    for i in (*ranking.indices_K, worst, 7):
        assert ranking.scores_N[i] == exact[i]
    np.testing.assert_array_equal(np.argsort(-ranking.scores_N, kind="stable")[:5].tolist(), ranking.indices_K.tolist())


def test_the_command_writes_the_index_beside_the_pool(tmp_path: Path) -> None:
    pool, own = similar_pool(n=40, numbers=512)
    pool.save(tmp_path / "pool")
    assert ReducedIndex.beside(tmp_path / "pool", pool) is None
    done = CliRunner().invoke(app, ["pool", "reduce", str(tmp_path / "pool"), "--size", "128"])
    assert done.exit_code == 0, done.output
    index = ReducedIndex.beside(tmp_path / "pool", CandidatePool.load(tmp_path / "pool"))
    assert index is not None
    assert index.size == 128
    assert index.rank(own[11], 1, shortlist=10).indices_K[0] == 11
