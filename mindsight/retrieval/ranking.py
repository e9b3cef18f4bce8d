"""Exact cosine search over a pool, in the same order every time.

Knows nothing of probabilities or brains. Letters: N candidates, D numbers of an embedding, B queries, K best places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.retrieval.pool import CandidatePool


@dataclass(frozen=True, eq=False)
class Ranking:
    """The pool's answer to one query.

    places_K : (K,) rows of the pool, best first; equal scores in the pool's order
    scores_N : (N,) cosine of every candidate, in the pool's order
    """

    places_K: NDArray[np.int64]
    scores_N: NDArray[np.float32]


def cosine_scores(queries_BD: NDArray[Any], pool: CandidatePool) -> NDArray[np.float32]:
    """(B, N) cosine between each query and each candidate; 0 where one of the two has no length.

    Queries may carry the pool's token axes; all tokens of a candidate count as one vector (Scotti et al. 2024, the
    retrieval of MindEye2). Raises ModelMismatch (``pool.query_shape``).
    """
    flat_BD = np.asarray(queries_BD, dtype=np.float32).reshape(len(queries_BD), -1)
    embeddings_ND = pool.flat_ND
    if flat_BD.shape[1] != embeddings_ND.shape[1]:
        raise ModelMismatch(
            f"expected queries of {embeddings_ND.shape[1]} numbers {pool.token_shape}, got {flat_BD.shape[1]}",
            code="pool.query_shape",
        )
    unit_BD = _divide(flat_BD, np.linalg.norm(flat_BD, axis=1, keepdims=True))
    scores_BN = np.empty((len(flat_BD), len(pool)), np.float32)
    for start in range(0, len(pool), pool.rows_per_chunk):
        rows = slice(start, start + pool.rows_per_chunk)
        scores_BN[:, rows] = unit_BD @ embeddings_ND[rows].astype(np.float32, copy=False).T
    return _divide(scores_BN, pool.norms_N)


def rank(query_D: NDArray[Any], pool: CandidatePool, k: int) -> Ranking:
    """The k candidates closest to the query. Raises ModelMismatch (``pool.query_shape``)."""
    scores_N = cosine_scores(np.asarray(query_D)[None], pool)[0]
    return Ranking(np.argsort(-scores_N, kind="stable")[:k], scores_N)


def _divide(values: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    quotient = np.zeros_like(values)
    np.divide(values, lengths, out=quotient, where=lengths > 0.0)
    return quotient
