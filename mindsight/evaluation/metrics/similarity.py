"""Correlations and cosines between rows, in blocks, so that features larger than memory can lie on disk.

Knows nothing of what the rows are. Letters: K and J rows, D numbers of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest

_BLOCK = 8192  # numbers of a row at a time: 1,000 rows of them are 65 MB in float64


def correlation_matrix(a_KD: NDArray[Any], b_JD: NDArray[Any]) -> NDArray[np.float64]:
    """(K, J) Pearson correlation of every row with every row; 0 if one is constant."""
    return _products(a_KD, b_JD, centred=True)


def cosine_matrix(a_KD: NDArray[Any], b_JD: NDArray[Any]) -> NDArray[np.float64]:
    """(K, J) cosine of every row with every row; all axes after the first count as one; 0 if one has no length."""
    return _products(a_KD, b_JD, centred=False)


def row_correlations(a_KD: NDArray[Any], b_KD: NDArray[Any]) -> NDArray[np.float64]:
    """(K,) Pearson correlation of each row with its partner; 0 if one is constant."""
    a_KD, b_KD = _flat_pair(a_KD, b_KD)
    if len(a_KD) != len(b_KD):
        raise BadRequest(f"expected as many rows of both, got {len(a_KD)} and {len(b_KD)}", code="features.shape")
    mean_a, mean_b = _means(a_KD), _means(b_KD)
    dot, norm_a, norm_b = (np.zeros(len(a_KD)) for _ in range(3))
    for columns in _blocks(a_KD.shape[1]):
        a, b = _block(a_KD, columns, mean_a), _block(b_KD, columns, mean_b)
        dot += np.einsum("kd,kd->k", a, b)
        norm_a += np.einsum("kd,kd->k", a, a)
        norm_b += np.einsum("kd,kd->k", b, b)
    return _ratio(dot, _lengths(norm_a, mean_a, a_KD.shape[1]) * _lengths(norm_b, mean_b, a_KD.shape[1]))


def _products(a_KD: NDArray[Any], b_JD: NDArray[Any], centred: bool) -> NDArray[np.float64]:
    a_KD, b_JD = _flat_pair(a_KD, b_JD)
    mean_a = _means(a_KD) if centred else np.zeros((len(a_KD), 1))
    mean_b = _means(b_JD) if centred else np.zeros((len(b_JD), 1))
    dot = np.zeros((len(a_KD), len(b_JD)))
    norm_a, norm_b = np.zeros(len(a_KD)), np.zeros(len(b_JD))
    for columns in _blocks(a_KD.shape[1]):
        a, b = _block(a_KD, columns, mean_a), _block(b_JD, columns, mean_b)
        dot += a @ b.T
        norm_a += np.einsum("kd,kd->k", a, a)
        norm_b += np.einsum("jd,jd->j", b, b)
    lengths = _lengths(norm_a, mean_a, a_KD.shape[1]), _lengths(norm_b, mean_b, a_KD.shape[1])
    return _ratio(dot, np.outer(*lengths))


def _flat_pair(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if a.shape[1:] != b.shape[1:] or a.size == 0:
        raise BadRequest(f"expected rows of one shape, got {a.shape[1:]} and {b.shape[1:]}", code="features.shape")
    return a.reshape(len(a), -1), b.reshape(len(b), -1)


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


def _means(values_KD: NDArray[Any]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean(values_KD, axis=1, keepdims=True, dtype=np.float64)
    return means


def _block(values_KD: NDArray[Any], columns: slice, mean_K1: NDArray[np.float64]) -> NDArray[np.float64]:
    block: NDArray[np.float64] = values_KD[:, columns].astype(np.float64) - mean_K1
    return block


def _lengths(squares_K: NDArray[np.float64], mean_K1: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    # what is left of a constant row is the rounding of its mean: no length at all
    rounding_K = np.sqrt(n) * 1e-12 * np.abs(mean_K1[:, 0])
    lengths_K = np.sqrt(squares_K)
    return np.where(lengths_K > rounding_K, lengths_K, 0.0)


def _ratio(value: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(value, length, out=np.zeros_like(value), where=length > 0.0)
