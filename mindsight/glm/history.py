"""The frames of a run so far: voxel values, confounds, and which frames are censored.

Knows nothing of designs or events. Letters: V voxels, T frames so far, N capacity of the buffer, C confounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import BadRequest, BadVolume

_FIRST_CAPACITY = 80


class History:
    """A buffer that grows with the run.

    n_voxels, n_confounds : V and C
    series_VN : (V, N) float32, of which the first ``n_frames`` columns are in use: differences to ``baseline_V``
    baseline_V : (V,) float64, the first frame that is not censored; zeros before there is one
    """

    def __init__(self, n_voxels: int, n_confounds: int) -> None:
        self.n_frames = 0
        self.series_VN = np.zeros((n_voxels, _FIRST_CAPACITY), np.float32)
        self.baseline_V = np.zeros(n_voxels)
        self._has_baseline = False
        self._confounds_NC = np.zeros((_FIRST_CAPACITY, n_confounds))
        self._censored_N = np.zeros(_FIRST_CAPACITY, np.bool_)

    @property
    def confounds_TC(self) -> NDArray[np.float64]:
        return self._confounds_NC[: self.n_frames]

    @property
    def censored_T(self) -> NDArray[np.bool_]:
        return self._censored_N[: self.n_frames]

    def series(self) -> NDArray[np.float32]:
        """(T, V) the frames as appended (to float32)."""
        return (self.series_VN[:, : self.n_frames].T + self.baseline_V).astype(np.float32)

    def checked(self, y_V: ArrayLike, confounds_C: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A frame's voxels and confounds as ``append`` takes them.

        Raises BadVolume (``volume.voxel_count``, ``volume.not_finite``) and BadRequest (``confounds.shape``).
        """
        n_voxels, n_confounds = len(self.baseline_V), self._confounds_NC.shape[1]
        y = np.asarray(y_V, dtype=np.float64)
        if y.shape != (n_voxels,):
            raise BadVolume(f"expected ({n_voxels},) voxels, got {y.shape}", code="volume.voxel_count")
        confounds = np.zeros(0) if confounds_C is None else np.asarray(confounds_C, dtype=np.float64)
        if confounds.shape != (n_confounds,):
            raise BadRequest(f"expected {n_confounds} confounds, got shape {confounds.shape}", code="confounds.shape")
        if not (np.isfinite(y).all() and np.isfinite(confounds).all()):
            raise BadVolume("expected finite voxels and confounds, got NaN or infinity", code="volume.not_finite")
        return y, confounds

    def append(self, y_V: NDArray[np.float64], confounds_C: NDArray[np.float64], censored: bool) -> None:
        """Take the next frame."""
        if self.n_frames == self._censored_N.size:
            self._grow()
        # Differences to the first good frame, so that float32 keeps what varies; the constant absorbs the rest.
        if not self._has_baseline and not censored:
            self.baseline_V = y_V.copy()
            self._has_baseline = True
        self.series_VN[:, self.n_frames] = (y_V - self.baseline_V) if self._has_baseline else 0.0
        self._confounds_NC[self.n_frames] = confounds_C
        self._censored_N[self.n_frames] = censored
        self.n_frames += 1

    def _grow(self) -> None:
        # Odd multiples of a cache line: rows a power of two apart would compete for the same cache sets.
        more = self._censored_N.size + 16
        self.series_VN = np.pad(self.series_VN, ((0, 0), (0, more)))
        self._confounds_NC = np.pad(self._confounds_NC, ((0, more), (0, 0)))
        self._censored_N = np.pad(self._censored_N, (0, more))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that was appended."""
        return {
            "series_VT": self.series_VN[:, : self.n_frames].copy(),
            "baseline_V": self.baseline_V.copy(),
            "has_baseline": np.array(self._has_baseline),
            "confounds_TC": self.confounds_TC.copy(),
            "censored_T": self.censored_T.copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned."""
        self.n_frames = int(state["censored_T"].size)
        room = ((0, _FIRST_CAPACITY),)
        series_VN = np.pad(state["series_VT"].astype(np.float32), ((0, 0), *room))
        assert series_VN.shape == (len(self.baseline_V), self.n_frames + _FIRST_CAPACITY)
        self.series_VN = series_VN
        self._confounds_NC = np.pad(state["confounds_TC"].astype(np.float64), (*room, (0, 0)))
        self._censored_N = np.pad(state["censored_T"].astype(np.bool_), room)
        self.baseline_V = state["baseline_V"].astype(np.float64)
        self._has_baseline = bool(state["has_baseline"])
