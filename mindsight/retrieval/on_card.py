"""A pool in the memory of a card: every candidate's cosine by one product, on the device that made the query.

Knows nothing of probabilities or brains. Letters: N candidates, D numbers of an embedding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.errors import MindsightError, ModelMismatch
from mindsight.features import Array
from mindsight.retrieval.origin import Origin
from mindsight.retrieval.pool import CHUNK_BYTES, CandidatePool
from mindsight.retrieval.ranking import Ranking, best_places
from mindsight.weights.device import Placement, is_out_of_memory

_HALF_BYTES = 2
_WORKING_BYTES = 8 * CHUNK_BYTES  # of a chunk in float32 and as integers, while the pool is put there


class PoolOnCard:
    """Made by ``put``.

    Rows are scaled to the length sqrt(D) and rounded to half precision, which holds numbers of order one best; sums are
    in float32. So a score is the host's (``ranking.cosine_scores``) within ``2 u + u^2``, u = 2^-11 half precision's
    unit roundoff (each side of the cosine has a relative error of at most u, and Cauchy-Schwarz), and much nearer for
    large D, where roundings cancel.

    placement : of the rows
    rows_ND : half precision; zero for a candidate without length
    first_N : index of the first candidate with the same row; equal candidates score equally, in whatever order a
        kernel sums
    origin_D : that was subtracted from the rows, in float32
    noise : length that a query has from rounding alone, see ``Origin``
    """

    def __init__(
        self,
        placement: Placement,
        rows_ND: Tensor,
        first_N: NDArray[np.int64],
        origin_D: Tensor | None = None,
        noise: float = 0.0,
    ) -> None:
        self._placement, self._rows_ND, self._first_N = placement, rows_ND, first_N
        self._origin_D, self._noise = origin_D, noise

    @classmethod
    @torch.inference_mode()
    def put(cls, pool: CandidatePool, origin_D: NDArray[np.float32] | None, placement: Placement) -> PoolOnCard:
        """Read the pool once and put it on the device. Lengths are computed here, and never again."""
        origin = None if origin_D is None else Origin.of(origin_D)
        place_D = None if origin is None else placement.moved(origin.place_D)
        noise = 0.0 if origin is None else origin.noise(pool.embeddings.dtype)
        n, numbers = pool.flat_ND.shape
        rows_ND = torch.empty(n, numbers, dtype=torch.float16, device=placement.device)
        draw = torch.Generator().manual_seed(0)
        weights_D = placement.moved(torch.randint(-(2**62), 2**62, (numbers,), generator=draw))
        prints = torch.empty(n, dtype=torch.int64, device=placement.device)
        for start in range(0, n, pool.rows_per_chunk):
            part = slice(start, start + pool.rows_per_chunk)
            rows_ND[part] = _of_one_length(placement.moved(np.array(pool.flat_ND[part])).float(), place_D, noise)
            # integers sum to the same bits in every order
            prints[part] = (rows_ND[part].view(torch.int16) * weights_D).sum(dim=1)
        _, first, of_row = np.unique(prints.cpu().numpy(), return_index=True, return_inverse=True)
        query_noise = 0.0 if origin is None else origin.noise(np.float32)
        return cls(placement, rows_ND, first[of_row], place_D, query_noise)

    def rank(self, query_D: Array, k: int) -> Ranking | None:
        """As ``ranking.rank``; None if the card has no memory left to do it.

        The one point of a trial at which the host waits for the card. Raises ModelMismatch (``pool.query_shape``), and
        MindsightError (``decoder.overflow``) for a query that is not finite.
        """
        if (given := math.prod(query_D.shape)) != self._rows_ND.shape[1]:
            raise ModelMismatch(
                f"expected queries of {self._rows_ND.shape[1]} numbers, got {given}", code="pool.query_shape"
            )
        try:
            found = self.scores(self._placement.moved(query_D)).cpu().numpy()
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise
        if not np.isfinite(found).all():
            raise MindsightError(
                "expected finite features, got some beyond the range of half precision: exclude outlying voxels, or set"
                " MINDSIGHT_DEVICE=cpu for single precision",
                code="decoder.overflow",
            )
        scores_N = found[:-1][self._first_N]
        return Ranking(best_places(scores_N, k), scores_N, float(found[-1]))

    @torch.inference_mode()
    def scores(self, query_D: Tensor) -> Tensor:
        """(N + 1,) float32 on the device: every candidate's cosine, and last the length of the query."""
        query_1D = query_D.reshape(1, -1).float()
        unit_1D = _of_one_length(query_1D, self._origin_D, self._noise).half()
        away_1D = query_1D if self._origin_D is None else query_1D - self._origin_D
        length_1 = torch.linalg.vector_norm(away_1D, dim=1, dtype=torch.float64).float()
        return torch.cat((_products(self._rows_ND, unit_1D) / unit_1D.shape[1], length_1))


def lack_of_room(pool: CandidatePool, free_bytes: int | None, reserved_bytes: int) -> str | None:
    """Why a pool stays in the host's memory, and what to do about it; None if it fits.

    free_bytes : of the card; None for a device that has the host's memory
    reserved_bytes : that reconstructions will need
    """
    needed = pool.flat_ND.size * _HALF_BYTES + _WORKING_BYTES
    if free_bytes is None or needed + reserved_bytes <= free_bytes:
        return None
    return (
        f"expected {needed / 1e9:.1f} GB of the card's memory for {len(pool)} candidates beside"
        f" {reserved_bytes / 1e9:.1f} GB for reconstructions, got {free_bytes / 1e9:.1f} GB: candidates are searched on"
        " the host, within tens of milliseconds; leave out captions or use a smaller pool to search on the card"
    )


def _of_one_length(wide_ND: Tensor, origin_D: Tensor | None, noise: float) -> Tensor:
    """Rows, or their differences from the origin, at the length sqrt(D); zero if they are no longer than noise."""
    if origin_D is not None:
        wide_ND = wide_ND - origin_D
    lengths_N1 = torch.linalg.vector_norm(wide_ND, dim=1, keepdim=True, dtype=torch.float64)
    scales_N1 = torch.where(lengths_N1 > noise, math.sqrt(wide_ND.shape[1]) / lengths_N1, 0.0)
    return wide_ND * scales_N1.float()


def _products(rows_ND: Tensor, query_1D: Tensor) -> Tensor:
    """(N,) dot products of half-precision rows with a half-precision query, in float32."""
    if rows_ND.device.type != "cpu":
        return torch.mm(query_1D, rows_ND.T, out_dtype=torch.float32)[0]
    # torch has no such product on a processor
    chunks = torch.split(rows_ND, max(1, CHUNK_BYTES // (4 * rows_ND.shape[1])))
    return torch.cat([chunk.float() @ query_1D[0].float() for chunk in chunks])
