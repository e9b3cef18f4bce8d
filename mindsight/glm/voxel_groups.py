"""Voxels grouped by the shape of their response and the time at which they are measured.

Knows nothing of series or designs. Letters: V voxels, G groups, L samples of a response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.glm.hrf import LIBRARY, Hrf, kernel

_T = TypeVar("_T", bound=np.generic)


class VoxelGroup(NamedTuple):
    """Voxels with one design.

    rows : their rows, when voxels are sorted by group
    kernel_sum_L : running sum of their response to an impulse
    lag_s : time at which they are measured, from the frame's
    """

    rows: slice
    kernel_sum_L: NDArray[np.float64]
    lag_s: float


@dataclass(frozen=True, eq=False)
class VoxelGroups:
    """All voxels, group after group.

    order_V : (V,) the caller's index of each sorted voxel; None if the order is the caller's
    """

    groups: tuple[VoxelGroup, ...]
    order_V: NDArray[np.intp] | None

    @classmethod
    def of(
        cls,
        n_voxels: int,
        tr_s: float,
        hrf: Hrf,
        hrf_V: NDArray[np.integer[Any]] | None,
        lag_V: NDArray[np.floating[Any]] | None,
    ) -> VoxelGroups:
        """hrf, hrf_V, lag_V : of ``StreamingGLM``. Raises BadRequest (``glm.option``) if they are not per voxel."""
        if hrf_V is None and lag_V is None:
            return cls((VoxelGroup(slice(0, n_voxels), np.cumsum(kernel(hrf, tr_s)), 0.0),), None)
        _check(n_voxels, tr_s, hrf_V, lag_V)
        shape_V = np.full(n_voxels, -1) if hrf_V is None else hrf_V.astype(np.int64)
        of_frame_V = np.zeros(n_voxels) if lag_V is None else lag_V.astype(np.float64)
        kinds_G2, kind_V = np.unique(np.column_stack([shape_V, of_frame_V]), axis=0, return_inverse=True)
        ends = np.cumsum(np.bincount(kind_V.reshape(-1)))
        groups = tuple(
            VoxelGroup(
                slice(int(start), int(end)),
                np.cumsum(kernel(hrf if shape < 0 else LIBRARY[int(shape)], tr_s)),
                float(lag_s),
            )
            for start, end, (shape, lag_s) in zip([0, *ends[:-1]], ends, kinds_G2, strict=True)
        )
        return cls(groups, np.argsort(kind_V.reshape(-1), kind="stable"))

    def sort(self, values_V: NDArray[_T]) -> NDArray[_T]:
        """(V,) from the caller's order to that of the groups."""
        return values_V if self.order_V is None else values_V[self.order_V]

    def restore(self, sorted_V: NDArray[_T]) -> NDArray[_T]:
        """From the groups' order of voxels (last axis) to the caller's."""
        if self.order_V is None:
            return sorted_V
        out = np.empty_like(sorted_V)
        out[..., self.order_V] = sorted_V
        return out

    def rows_of(self, voxels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Sorted rows of the voxels with these indices."""
        return voxels if self.order_V is None else np.flatnonzero(np.isin(self.order_V, voxels))


def _check(
    n_voxels: int, tr_s: float, hrf_V: NDArray[np.integer[Any]] | None, lag_V: NDArray[np.floating[Any]] | None
) -> None:
    if hrf_V is not None and (hrf_V.shape != (n_voxels,) or hrf_V.min() < 0 or hrf_V.max() >= len(LIBRARY)):
        raise BadRequest(
            f"expected for each of {n_voxels} voxels a response from 0 to {len(LIBRARY) - 1}, got shape {hrf_V.shape}"
            f" from {hrf_V.min()} to {hrf_V.max()}",
            code="glm.option",
        )
    if lag_V is not None and (lag_V.shape != (n_voxels,) or not np.abs(lag_V).max() <= tr_s):
        raise BadRequest(
            f"expected for each of {n_voxels} voxels a lag of at most a TR, got shape {lag_V.shape}", code="glm.option"
        )
