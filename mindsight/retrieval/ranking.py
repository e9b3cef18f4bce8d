"""Exact cosine search over a pool, in the same order every time.

Knows nothing of probabilities or brains. Letters: N candidates, D numbers of an embedding, B queries, K best indices,
P requested indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.moved import OldName
from mindsight.retrieval.dot_products import dot_products, widened
from mindsight.retrieval.origin import Origin
from mindsight.retrieval.pool import CandidatePool

# from this many queries on, a matrix product is faster than one pass over the pool for each query
_MANY = 9
# below this share of |e|^2 + |o|^2, whose sums are good to about 1e-7, their difference has too few digits
_CANCELLED = 0.01


@dataclass(frozen=True, eq=False)
class Ranking:
    """The pool ranked by one query.

    indices_K : (K,) rows of the pool, best first; equal scores in the pool's order
    scores_N : (N,) cosine of every candidate, in the pool's order
    length : Euclidean length of the query, which the cosine ignores; from the origin, if one is given
    """

    indices_K: NDArray[np.int64]
    scores_N: NDArray[np.float32]
    length: float = 1.0
    places_K = OldName("indices_K")


def cosine_scores(
    queries_BD: NDArray[Any], pool: CandidatePool, origin_D: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """(B, N) cosine between each query and each candidate; 0 if one of the two has no length.

    origin_D : subtracted from queries and candidates; None subtracts nothing. Subtracting the mean embedding removes
        what all candidates share, which distinguishes none of them. A candidate or a query that equals the origin
        within its precision has no length (see ``Origin``)

    Queries may carry the pool's token axes; all tokens of a candidate count as one vector (Scotti et al. 2024, the
    retrieval of MindEye2). The pool is read once, in its order, and no more than ``CHUNK_BYTES`` of it is copied.
    Raises ModelMismatch (``pool.query_shape``).
    """
    if len(queries_BD) < _MANY:
        return cosines_at(queries_BD, pool, np.arange(len(pool)), origin_D)
    unit_BD = _unit_queries(queries_BD, pool, origin_D)
    origin = None if origin_D is None else Origin.of(origin_D)
    scores_BN = np.empty((len(unit_BD), len(pool)), np.float32)
    for start in range(0, len(pool), pool.rows_per_chunk):
        rows = slice(start, start + pool.rows_per_chunk)
        chunk = widened(pool.flat_ND[rows])
        chunk = chunk if origin is None else chunk - origin.place_D
        norms = np.sqrt(np.einsum("nd,nd->n", chunk, chunk, dtype=np.float32))
        norms = norms if origin is None else origin.lengths(norms, pool.embeddings.dtype)
        scores_BN[:, rows] = _divide(unit_BD @ chunk.T, norms)
    return scores_BN


def cosines_at(
    queries_BD: NDArray[Any], pool: CandidatePool, places_P: NDArray[np.int64], origin_D: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """(B, P) cosine between each query and the candidates at these indices; only these are read."""
    unit_BD = _unit_queries(queries_BD, pool, origin_D)
    if origin_D is None:
        dots_BP, squares_P = dot_products(unit_BD, pool.flat_ND, places_P)
        return _divide(dots_BP, np.sqrt(squares_P)).astype(np.float32)
    return _cosines_from(Origin.of(origin_D), unit_BD, pool, places_P)


def rank(query_D: NDArray[Any], pool: CandidatePool, k: int, origin_D: NDArray[Any] | None = None) -> Ranking:
    """The k candidates closest to the query, see ``cosine_scores``. Raises ModelMismatch (``pool.query_shape``)."""
    query = np.asarray(query_D)
    scores_N = cosine_scores(query[None], pool, origin_D)[0]
    return Ranking(best_places(scores_N, k), scores_N, query_length(query if origin_D is None else query - origin_D))


def best_places(scores_N: NDArray[Any], k: int) -> NDArray[np.int64]:
    """(min(k, N),) indices of the k highest scores, highest first; equal ones in their order, also at the k-th rank."""
    n = len(scores_N)
    if k >= n:
        return np.argsort(-scores_N, kind="stable")
    last = np.partition(scores_N, n - k)[n - k]
    above = np.flatnonzero(scores_N > last)
    level = np.flatnonzero(scores_N == last)[: k - len(above)]
    indices = np.concatenate([above, level])
    return indices[np.argsort(-scores_N[indices], kind="stable")]


def query_length(query_D: NDArray[Any]) -> float:
    """Euclidean length of a query, all its axes as one."""
    return float(np.linalg.norm(np.asarray(query_D, dtype=np.float32)))


def _unit_queries(
    queries_BD: NDArray[Any], pool: CandidatePool, origin_D: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    flat_BD = np.asarray(queries_BD, dtype=np.float32).reshape(len(queries_BD), -1)
    if flat_BD.shape[1] != pool.flat_ND.shape[1]:
        raise ModelMismatch(
            f"expected queries of {pool.flat_ND.shape[1]} numbers {pool.token_shape}, got {flat_BD.shape[1]}",
            code="pool.query_shape",
        )
    if origin_D is None:
        return _divide(flat_BD, np.linalg.norm(flat_BD, axis=1, keepdims=True))
    origin = Origin.of(origin_D)
    flat_BD = flat_BD - origin.place_D
    lengths_B1 = origin.lengths(np.linalg.norm(flat_BD, axis=1, keepdims=True), np.asarray(queries_BD).dtype)
    return _divide(flat_BD, lengths_B1)


def _cosines_from(
    origin: Origin, unit_BD: NDArray[np.float32], pool: CandidatePool, places_P: NDArray[np.int64]
) -> NDArray[np.float32]:
    """In one pass, without a copy: (e - o) q = e q - o q and |e - o|^2 = |e|^2 - 2 e o + |o|^2.

    Where a candidate lies so near the origin that little is left of these differences, they are taken number by number.
    """
    wide_D = origin.place_D.astype(np.float64)
    dots_BP, squares_P = dot_products(np.concatenate([unit_BD, origin.place_D[None]]), pool.flat_ND, places_P)
    both_P = squares_P + wide_D @ wide_D
    seen_P = both_P - 2.0 * dots_BP[-1]
    dots_BP = dots_BP[:-1] - (unit_BD @ wide_D)[:, None]
    near_P = np.flatnonzero(seen_P < _CANCELLED * both_P)
    for start in range(0, len(near_P), pool.rows_per_chunk):
        some = near_P[start : start + pool.rows_per_chunk]
        left_PD = widened(pool.flat_ND[places_P[some]]) - origin.place_D
        dots_BP[:, some], seen_P[some] = dot_products(unit_BD, left_PD, np.arange(len(some)))
    lengths_P = origin.lengths(np.sqrt(seen_P), pool.embeddings.dtype)
    return _divide(dots_BP, lengths_P).astype(np.float32)


def _divide(values: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    quotient = np.zeros_like(values)
    np.divide(values, lengths, out=quotient, where=lengths > 0.0)
    return quotient
