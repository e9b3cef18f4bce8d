"""Splits that keep repeats and near-duplicates of an image on one side.

A decoder trained on a near-duplicate of a test image can answer from memory: an image is held out only when its whole
cluster is. Knows nothing of decoders. Letters: K items, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.similarity import cosine_matrix

_ROWS = 1024


def near_duplicates(embeddings_KD: NDArray[Any], cosine: float) -> NDArray[np.int64]:
    """(K,) cluster of each item: two items whose cosine is at least ``cosine`` are in one, and chains of such pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = [], []
    for start in range(0, len(embeddings_KD), _ROWS):
        close = np.argwhere(cosine_matrix(embeddings_KD[start : start + _ROWS], embeddings_KD) >= cosine)
        rows.append(close[:, 0] + start)
        columns.append(close[:, 1])
    i, j = np.concatenate(rows), np.concatenate(columns)
    n = len(embeddings_KD)
    _, clusters_K = connected_components(coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n)), directed=False)
    return clusters_K.astype(np.int64)


def cluster_folds(clusters_K: NDArray[np.int64], n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(K,) fold of each item, whole clusters together, folds as even as clusters allow.

    Clusters are dealt from the largest, those of one size in a random order, to the fold with the fewest items.
    Raises BadRequest (``split.folds``): fewer clusters than folds.
    """
    labels, members_K, sizes = np.unique(clusters_K, return_inverse=True, return_counts=True)
    if not 2 <= n_folds <= len(labels):
        raise BadRequest(f"expected between 2 and {len(labels)} folds, got {n_folds}", code="split.folds")
    mixed = rng.permutation(len(labels))
    held = np.zeros(n_folds, np.int64)
    fold_of = np.empty(len(labels), np.int64)
    for label in mixed[np.argsort(-sizes[mixed], kind="stable")]:
        fold_of[label] = np.argmin(held)
        held[fold_of[label]] += sizes[label]
    folds_K: NDArray[np.int64] = fold_of[members_K]
    return folds_K


def require_disjoint(training: Collection[Hashable], test: Collection[Hashable]) -> None:
    """Raises BadRequest (``split.leak``) if a cluster, or an image, is on both sides."""
    shared = set(training) & set(test)
    if shared:
        some = ", ".join(str(item) for item in sorted(shared, key=str)[:5])
        raise BadRequest(
            f"expected no test image (or near-duplicate of one) among the training images, got {len(shared)} on both "
            f"sides ({some}): leave these out of the test set",
            code="split.leak",
        )
