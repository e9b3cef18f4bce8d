"""Search in a pool too large to read for every query: a small sketch of each candidate finds a short list, which is
then compared at full resolution.

Knows nothing of probabilities or brains. Letters: N candidates, D numbers of an embedding, M of its sketch.

The projection adds each of the D numbers, with a random sign, to one of M sums, D / M numbers to each (feature hashing:
K. Weinberger et al., ICML 2009; M. Charikar, K. Chen, M. Farach-Colton, ICALP 2002). Its M rows share no column, so
they are orthogonal. For two vectors of length one it gives their cosine c without bias, with a standard deviation of
sqrt((1 + c^2) / M): 0.022 to 0.031 for M = 2,048. What two candidates have in common has the same error for both and
does not change their order. Unlike a Gaussian projection it needs no matrix of M x D, and unlike principal components
no candidates: it can be drawn before the first is embedded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.retrieval.dot_products import dot_products, sketches
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.ranking import Ranking, best_places, cosines_at, query_length
from mindsight.weights.tensors import map_tensors, write_tensors

INDEX = "index.safetensors"  # in the pool's folder


@dataclass(frozen=True, eq=False)
class ReducedIndex:
    """Sketches of a pool's candidates.

    pool : with the full resolution
    slot_D : (D,) int32, the slot of each number: it is added to sum ``slot // 2``, or subtracted if the slot is odd
    sketches_NM : (N, M) float16 of the candidates at length one; may be a memory map
    """

    pool: CandidatePool
    slot_D: NDArray[np.int32]
    sketches_NM: NDArray[Any]

    @classmethod
    def build(cls, pool: CandidatePool, rng: np.random.Generator, size: int = 2048) -> ReducedIndex:
        """Sketch every candidate in ``size`` numbers; one pass over the pool."""
        numbers = pool.flat_ND.shape[1]
        sums_D = rng.permutation(np.arange(numbers) % size)
        slot_D = (2 * sums_D + rng.integers(0, 2, numbers)).astype(np.int32)
        sketches_NM = np.empty((len(pool), size), np.float16)
        nothing = np.zeros((1, numbers), np.float32)
        for start in range(0, len(pool), pool.rows_per_chunk):
            rows = pool.flat_ND[start : start + pool.rows_per_chunk]
            squares = dot_products(nothing, rows, np.arange(len(rows)))[1]
            lengths = np.sqrt(np.where(squares > 0.0, squares, 1.0))
            sketches_NM[start : start + len(rows)] = sketches(rows, slot_D, size) / lengths[:, None]
        return cls(pool, slot_D, sketches_NM)

    @classmethod
    def beside(cls, folder: Path, pool: CandidatePool) -> ReducedIndex | None:
        """The index in the pool's folder, None if there is none. Raises what ``load`` does."""
        return cls.load(folder / INDEX, pool) if (folder / INDEX).exists() else None

    @property
    def size(self) -> int:
        """M."""
        return int(self.sketches_NM.shape[1])

    def estimates(self, query_D: NDArray[Any]) -> NDArray[np.float32]:
        """(N,) estimated cosine of every candidate, from the sketches. Raises ModelMismatch (``pool.query_shape``)."""
        flat_1D = np.asarray(query_D, dtype=np.float32).reshape(1, -1)
        if flat_1D.shape[1] != len(self.slot_D):
            raise ModelMismatch(
                f"expected a query of {len(self.slot_D)} numbers {self.pool.token_shape}, got {flat_1D.shape[1]}",
                code="pool.query_shape",
            )
        sketch_1M = sketches(flat_1D, self.slot_D, self.size)
        dots_1N = dot_products(sketch_1M, self.sketches_NM, np.arange(len(self.pool)))[0]
        estimates_N: NDArray[np.float32] = (dots_1N[0] / (query_length(query_D) or 1.0)).astype(np.float32)
        return estimates_N

    def rank(self, query_D: NDArray[Any], k: int, shortlist: int = 256, also: Collection[int] = ()) -> Ranking:
        """The k best of the ``shortlist`` candidates that the sketches put first, in the order of their exact cosines.

        also : indices that are compared at full resolution in any case

        The scores of the short list are exact. The others are the sketches' estimates, limited to the score of the last
        of the k, so that no candidate that was not compared ranks above one that was. Raises ModelMismatch
        (``pool.query_shape``).
        """
        scores_N = self.estimates(query_D)
        near_P = np.union1d(best_places(scores_N, max(k, shortlist)), np.array(sorted(also), np.int64))
        exact_P = cosines_at(np.asarray(query_D)[None], self.pool, near_P)[0]
        best_K = near_P[best_places(exact_P, k)]
        scores_N = np.minimum(scores_N, exact_P.min() if len(best_K) < k else np.sort(exact_P)[-k])
        scores_N[near_P] = exact_P
        return Ranking(best_K, scores_N, query_length(query_D))

    def save(self, path: Path) -> None:
        """Write to one safetensors file, with the digest of the pool that it belongs to."""
        digest = np.frombuffer(bytes.fromhex(self.pool.digest), np.uint8)
        write_tensors(path, {"pool": digest, "sketches": self.sketches_NM, "slots": self.slot_D})

    @classmethod
    def load(cls, path: Path, pool: CandidatePool) -> ReducedIndex:
        """Read what ``save`` wrote; the sketches stay in the file. Raises ModelMismatch (``model.file``, and
        ``pool.index`` if it belongs to another pool).
        """
        tensors = map_tensors(path)
        missing = {"pool", "sketches", "slots"} - set(tensors)
        if missing:
            raise ModelMismatch(
                f"expected the index of a pool, {path.name} has no {sorted(missing)}", code="model.file"
            )
        slots, sketched = tensors["slots"], tensors["sketches"]
        numbers = pool.flat_ND.shape[1]
        # the loops over them check no bounds
        if (
            slots.dtype != np.int32
            or slots.shape != (numbers,)
            or sketched.dtype != np.float16
            or sketched.shape[:1] != (len(pool),)
            or sketched.ndim != 2
            or not (slots.min() >= 0 and slots.max() < 2 * sketched.shape[1])
        ):
            raise ModelMismatch(
                f"expected slots of {numbers} numbers and a sketch of each of {len(pool)} candidates, got {slots.shape}"
                f" and {sketched.shape} in {path.name}, or slots beyond the sketch: build it again",
                code="model.file",
            )
        if tensors["pool"].tobytes().hex() != pool.digest:
            raise ModelMismatch(
                f"expected the index of this pool, {path.name} was built for another: build it again", code="pool.index"
            )
        return cls(pool, np.array(slots), sketched)
