"""The residuals of a fit: their autocorrelation, their variance, their common components.

Knows nothing of events or trials. Letters: V voxels, T frames, N capacity of the buffer, R rank of the design, B bins
of the autoregressive coefficient, C components.

The AR(1) coefficient of a voxel is the unbiased Yule-Walker estimate on the residuals of ordinary least squares, cut to
hundredths as nilearn's ``run_glm`` does. Residuals are computed in float32; a voxel whose coefficient falls so close to
a cut that float32 could decide otherwise is computed again in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindsight.glm.estimators import gram_matrices
from mindsight.glm.kernels import gram, lag_sums

AR_BINS = 100
# OpenBLAS takes one thread for products up to this size (interface/gemm.c). Larger ones would start threads that wait
# for each other by spinning, which on a busy machine costs a hundred times the work.
_ONE_THREAD_PRODUCT = 1 << 18
# Float32 rounding moves a residual by a few eps of its series; twice that over |e| bounds the coefficient's error.
_AR_DOUBT = 32 * AR_BINS * float(np.finfo(np.float32).eps)
_FRAMES_PER_COMPONENT = 10


class Residuals:
    """Each voxel's series (the buffer's first T frames) minus its fit to a design with orthonormal columns ``q_TR``.

    with_variance : whether ``variance`` will be called with a coefficient other than 0
    """

    def __init__(
        self, series_VN: NDArray[np.float32], q_TR: NDArray[np.float64], *, with_variance: bool = False
    ) -> None:
        self._series_VN = series_VN
        self.n_voxels = len(series_VN)
        self._q_TR = q_TR
        self._n_left = q_TR.shape[0] - q_TR.shape[1]
        if self._n_left > 0:
            self._sums_V4, self._cross_VR = self._pass(with_variance)

    def ar_hundredths(self) -> NDArray[np.int64]:
        """(V,) AR(1) coefficient of each voxel's residuals, in hundredths cut towards zero."""
        if self._n_left <= 0:  # every whitening has the same solution then
            return np.zeros(len(self._series_VN), np.int64)
        n_frames, sums_V4 = len(self._q_TR), self._sums_V4
        rho_V = _yule_walker(sums_V4[:, 0], sums_V4[:, 1], n_frames) * AR_BINS
        doubt_V = _AR_DOUBT * np.sqrt(sums_V4[:, 2] / np.maximum(sums_V4[:, 0], np.finfo(np.float64).tiny))
        doubtful = np.flatnonzero(np.abs(rho_V - np.rint(rho_V)) <= doubt_V)
        if doubtful.size:
            y_VT = self._series_VN[doubtful, :n_frames].astype(np.float64)
            e_VT = y_VT - (y_VT @ self._q_TR) @ self._q_TR.T
            r0_V, r1_V = np.einsum("vt,vt->v", e_VT, e_VT), np.einsum("vt,vt->v", e_VT[:, 1:], e_VT[:, :-1])
            rho_V[doubtful] = _yule_walker(r0_V, r1_V, n_frames) * AR_BINS
        return rho_V.astype(np.int64)

    def variance(self, rho_B: NDArray[np.float64], bin_V: NDArray[np.int64]) -> NDArray[np.float64]:
        """(V,) variance of the whitened noise: sum of squares of the whitened series minus its whitened fit, over the
        number of frames minus the design's rank. Infinite if that is 0.

        The whitened fit is not the fit that gave e: with z = Q'L'L e, their sums differ by z'G^-1 z.
        """
        if self._n_left <= 0:
            return np.full(len(self._series_VN), np.inf)
        sums_V4, cross_VR = self._sums_V4, self._cross_VR
        r0_V, r1_V, end_V, rho_V = sums_V4[:, 0], sums_V4[:, 1], sums_V4[:, 3], rho_B[bin_V]
        left_V = r0_V - 2.0 * rho_V * r1_V + rho_V**2 * (r0_V - end_V**2)
        if rho_B.any():
            z_VR = -rho_V[:, None] * cross_VR - (rho_V**2 * end_V)[:, None] * self._q_TR[-1]
            inverse_BRR = np.linalg.inv(gram_matrices(self._q_TR, rho_B))
            order = np.argsort(bin_V, kind="stable")
            ends = np.searchsorted(bin_V[order], np.arange(len(rho_B) + 1))
            for k, inverse_RR in enumerate(inverse_BRR):
                rows = order[ends[k] : ends[k + 1]]
                left_V[rows] -= np.einsum("vr,vr->v", z_VR[rows] @ inverse_RR, z_VR[rows])
        variance_V: NDArray[np.float64] = left_V / self._n_left
        return variance_V

    def _pass(self, crossed: bool) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Per voxel ``lag_sums`` of its residuals e, and (V, R) e's product with each column moved one frame either
        way (empty unless ``crossed``)."""
        n_frames, rank = self._q_TR.shape
        q32_TR = self._q_TR.astype(np.float32)
        qt32_RT = np.ascontiguousarray(q32_TR.T)
        moved_TR = np.zeros_like(q32_TR)
        moved_TR[:-1] += q32_TR[1:]
        moved_TR[1:] += q32_TR[:-1]
        n_voxels = len(self._series_VN)
        sums_V4 = np.empty((n_voxels, 4))
        cross_VR = np.empty((n_voxels, rank if crossed else 0), np.float32)
        size = max(_ONE_THREAD_PRODUCT // (n_frames * rank), 1)
        fit_VT = np.empty((size, n_frames), np.float32)
        for start in range(0, n_voxels, size):
            series_VT = self._series_VN[start : start + size, :n_frames]
            block_VT = fit_VT[: len(series_VT)]
            np.matmul(series_VT @ q32_TR, qt32_RT, out=block_VT)
            lag_sums(block_VT, self._series_VN, start, sums_V4)
            if crossed:
                np.subtract(series_VT, block_VT, out=block_VT)
                np.matmul(block_VT, moved_TR, out=cross_VR[start : start + size])
        return sums_V4, cross_VR


def _yule_walker(r0_V: NDArray[np.float64], r1_V: NDArray[np.float64], n_frames: int) -> NDArray[np.float64]:
    """Lag-1 over lag-0 covariance, each divided by its number of products; 0 for a voxel without residuals."""
    silent = r0_V <= 0.0
    rho_V: NDArray[np.float64] = (r1_V / (n_frames - 1)) / (np.where(silent, 1.0, r0_V) / n_frames)
    rho_V[silent] = 0.0
    return rho_V


def common_components(
    series_VT: NDArray[np.float32], nuisance_q_TR: NDArray[np.float64], n_components: int
) -> NDArray[np.float64]:
    """(T, C) first principal components over time of voxels without a response to the events.

    series_VT : of the noise pool alone
    nuisance_q_TR : orthonormal columns that are projected out first; each voxel then counts with the same variance
    n_components : upper limit; at most one per 10 frames that the nuisance leaves, so that a short run is not
        overfitted

    The noise regressors of GLMdenoise (Kay et al. 2013, Front Neurosci 7:247), with a pool and a number that are fixed
    beforehand: no later frame is used.
    """
    n_frames, rank = nuisance_q_TR.shape
    n_components = min(n_components, (n_frames - rank) // _FRAMES_PER_COMPONENT)
    if n_components <= 0:
        return np.zeros((n_frames, 0))
    y_VT = series_VT.astype(np.float64)
    e_VT = y_VT - (y_VT @ nuisance_q_TR) @ nuisance_q_TR.T
    size_V = np.sqrt(np.einsum("vt,vt->v", e_VT, e_VT))
    live_V = size_V > 1e-6 * np.sqrt(np.einsum("vt,vt->v", y_VT, y_VT))
    _, vectors_TT = np.linalg.eigh(gram(e_VT[live_V] / size_V[live_V, None]))
    return np.ascontiguousarray(vectors_TT[:, ::-1][:, :n_components])
