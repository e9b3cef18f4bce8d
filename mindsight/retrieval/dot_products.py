"""Dot products with rows that may be in a file larger than memory, as fast as memory delivers the rows.

Knows nothing of candidates. Letters: N rows, D numbers of a row, B queries, P requested rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from mindsight.retrieval import kernels

# below this many bytes a second thread costs more than it gains
_BYTES_PER_THREAD = 8 * 1024 * 1024


def dot_products(
    queries_BD: NDArray[np.float32], elements_ND: NDArray[Any], places_P: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B, P) dot product of each query with each requested row, and (P,) those rows' sums of squares.

    Each row is read once for all queries, without a copy, by as many threads as numba may use
    (``NUMBA_NUM_THREADS``). The sums of a row do not depend on the threads or on the other rows.
    """
    dots_BP, squares_P = np.empty((len(queries_BD), len(places_P))), np.empty(len(places_P))
    elements, queries = bits(elements_ND), np.ascontiguousarray(queries_BD)

    def work(part: slice) -> None:
        kernels.dot_rows(elements, places_P[part], queries, dots_BP[:, part], squares_P[part])

    _in_threads(work, len(places_P), len(places_P) * elements.shape[1] * elements.itemsize)
    return dots_BP, squares_P


def sketches(elements_ND: NDArray[Any], slot_D: NDArray[np.int32], size: int) -> NDArray[np.float32]:
    """(N, size) sketch of each row, see ``kernels.sketch_rows``."""
    elements, out_NM = bits(elements_ND), np.empty((len(elements_ND), size), np.float32)
    _in_threads(
        lambda part: kernels.sketch_rows(elements[part], slot_D, out_NM[part]), len(elements), elements_ND.nbytes
    )
    return out_NM


def widened(elements_ND: NDArray[Any]) -> NDArray[np.float32]:
    """(N, D) in single precision; float32 comes back as it is."""
    if elements_ND.dtype == np.float32:
        return elements_ND
    out_ND = np.empty(elements_ND.shape, np.float32)
    kernels.widen(bits(elements_ND), out_ND)
    return out_ND


def bits(elements_ND: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of the same bytes as the kernels take them: half precision as uint16."""
    view = np.asarray(elements_ND)
    view = view.view(np.uint16) if view.dtype == np.float16 else view.view()
    view.flags.writeable = False
    return view


def _in_threads(work: Callable[[slice], None], n: int, n_bytes: int) -> None:
    allowed: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = max(1, min(allowed, n_bytes // _BYTES_PER_THREAD, n))
    if threads == 1:
        return work(slice(0, n))
    edges = np.linspace(0, n, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(work, [slice(a, b) for a, b in itertools.pairwise(edges)]))
    return None
