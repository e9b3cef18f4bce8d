"""The pool on a card: the host's ranking within half precision's rounding. The CPU replaces a missing card."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mindsight.errors import MindsightError, ModelMismatch
from mindsight.retrieval import CandidatePool, rank
from mindsight.retrieval.on_card import PoolOnCard, lack_of_room
from mindsight.weights.device import Placement
from support.card import CARD
from support.tolerance import rounding

UNIT = 2.0**-11


def close(numbers: int) -> float:
    """Both sides of a cosine are rounded to half precision, each with a relative error of at most ``UNIT``."""
    return 2 * UNIT + UNIT**2 + rounding(numbers)


def make_pool(n: int = 60, dtype: type = np.float16, scale: float = 1.0) -> CandidatePool:
    embeddings = (scale * np.random.default_rng(1).normal(size=(n, 4, 60))).astype(dtype)
    return CandidatePool(tuple(f"c{i}" for i in range(n)), embeddings)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float16, 1.0), (np.float32, 1e6), (np.float32, 1e-9)])
@pytest.mark.parametrize("centred", [False, True])
def test_the_ranking_is_the_hosts(dtype: type, scale: float, centred: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of numbers that half precision cannot hold, and where the pool is read in pieces."""
    monkeypatch.setattr("mindsight.retrieval.pool.CHUNK_BYTES", 7 * 240 * 4)
    monkeypatch.setattr("mindsight.retrieval.on_card.CHUNK_BYTES", 11 * 240 * 4)
    pool = make_pool(dtype=dtype, scale=scale)
    rng = np.random.default_rng(2)
    origin = (scale * rng.normal(size=(4, 60))).astype(np.float32) if centred else None
    query = (scale * rng.normal(size=(4, 60))).astype(np.float32)
    found = PoolOnCard.put(pool, origin, CARD).rank(query, 60)
    exact = rank(query, pool, 60, origin)
    assert found is not None
    np.testing.assert_allclose(found.scores_N, exact.scores_N, rtol=0, atol=close(240))
    assert found.length == pytest.approx(exact.length, rel=rounding(240))
    assert found.scores_N.dtype == exact.scores_N.dtype
    # no two whose scores differ by more than the error of both are exchanged
    in_order = exact.scores_N[found.indices_K]
    assert (in_order[:-1] - in_order[1:] > -2 * close(240)).all()
    np.testing.assert_array_equal(np.sort(found.indices_K), np.arange(60))


def test_what_is_certain_is_in_the_hosts_order() -> None:
    """Candidates whose scores lie further apart than any rounding."""
    steps = np.linspace(0.1, 1.4, 40)
    angles = np.random.default_rng(3).permutation(steps)
    pool = CandidatePool(
        tuple(map(str, range(40))), np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    )
    assert np.abs(np.diff(np.cos(steps))).min() > 2 * close(2)
    query = np.array([3.0, 0.0], np.float32)
    found = PoolOnCard.put(pool, None, CARD).rank(query, 40)
    assert found is not None
    np.testing.assert_array_equal(found.indices_K, rank(query, pool, 40).indices_K)


def test_equal_candidates_score_equally_and_keep_the_order_of_the_pool() -> None:
    kinds = np.random.default_rng(4).normal(size=(3, 500)).astype(np.float16)
    of = np.random.default_rng(5).integers(0, 3, 90)
    pool = CandidatePool(tuple(map(str, range(90))), kinds[of])
    query = np.random.default_rng(6).normal(size=500).astype(np.float32)
    found = PoolOnCard.put(pool, None, CARD).rank(query, 90)
    assert found is not None
    assert len(set(found.scores_N.tolist())) == 3
    np.testing.assert_array_equal(found.indices_K, rank(query, pool, 90).indices_K)


def test_equal_candidates_score_equally_whatever_a_kernel_sums_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CandidatePool(("a", "b", "c"), np.ones((3, 8), np.float16))
    on_card = PoolOnCard.put(pool, None, CARD)
    monkeypatch.setattr(on_card, "scores", lambda _: torch.tensor([0.5, 0.5000001, 0.4999999, 1.0]))
    found = on_card.rank(np.ones(8, np.float32), 3)
    assert found is not None
    assert found.indices_K.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_has_no_length_scores_nothing(dtype: type) -> None:
    embeddings = np.random.default_rng(7).normal(size=(5, 30)).astype(dtype)
    origin = embeddings[2].astype(np.float32)
    embeddings[4] = 0.0
    pool = CandidatePool(tuple("abcde"), embeddings)
    query = np.random.default_rng(8).normal(size=30).astype(np.float32)
    for subtracted, nothing in ((None, 4), (origin, 2)):
        on_card = PoolOnCard.put(pool, subtracted, CARD)
        found = on_card.rank(query, 5)
        assert found is not None
        assert found.scores_N[nothing] == 0.0
        assert (np.delete(found.scores_N, nothing) != 0.0).all()
        at_origin = on_card.rank(np.zeros(30, np.float32) if subtracted is None else origin, 5)
        assert at_origin is not None
        assert not at_origin.scores_N.any()


def test_a_query_of_another_length_is_refused() -> None:
    with pytest.raises(ModelMismatch, match="240 numbers, got 239") as error:
        PoolOnCard.put(make_pool(), None, CARD).rank(np.zeros(239, np.float32), 1)
    assert error.value.code == "pool.query_shape"


def test_without_memory_there_is_no_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    on_card = PoolOnCard.put(make_pool(), None, CARD)

    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(on_card, "scores", full)
    assert on_card.rank(np.zeros(240, np.float32), 1) is None


def test_a_query_beyond_half_precision_is_refused() -> None:
    """What overflowed in the network, or came so."""
    query = np.ones(240, np.float32)
    query[3] = np.inf
    with pytest.raises(MindsightError, match="MINDSIGHT_DEVICE=cpu") as error:
        PoolOnCard.put(make_pool(), None, CARD).rank(query, 1)
    assert error.value.code == "decoder.overflow"


def test_scores_of_a_released_size_are_made_on_the_device() -> None:
    """10,000 candidates of 256 x 1,664 numbers, 8.5 GB: a value that the host waited for would be refused on meta."""
    meta = Placement("meta", "float16")
    rows_ND = torch.empty(10_000, 256 * 1664, dtype=torch.float16, device="meta")
    scores = PoolOnCard(meta, rows_ND, np.arange(10_000)).scores(
        torch.empty(256, 1664, dtype=torch.float16, device="meta")
    )
    assert (scores.device.type, scores.dtype, scores.shape) == ("meta", torch.float32, (10_001,))


def test_a_pool_that_does_not_fit_names_what_to_leave_out() -> None:
    pool = make_pool(1000)
    assert lack_of_room(pool, None, 10**12) is None
    assert lack_of_room(pool, 10**9, 10**8) is None
    lack = lack_of_room(pool, 10**9, 10**9)
    assert lack is not None
    assert "1000 candidates" in lack
    assert "leave out" in lack
