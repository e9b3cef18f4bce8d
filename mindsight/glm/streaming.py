"""The streaming single-trial GLM: after every volume the least-squares-separate estimate on the data so far.

Knows nothing of volumes, files or the clock. Letters: V voxels, T frames so far, P regressors, R rank of the design, C
confounds, B bins of the autoregressive coefficient.

For one trial the estimate is a linear functional of the history, ``beta_v = sum_i u_i(rho_v) y_vi``. The history is
kept (float32, one row per voxel) and only the weights ``u`` are made anew, so that the whole design may change with
every frame, as nilearn's cosine basis does, and the answer still equals the batch fit. With the thin decomposition
``X = Q S W'`` of the design and ``L`` the AR(1) whitening (first row as it is):

    g = (W S^-1)[probe]          G(rho) = Q'L'LQ = I - rho A1 + rho^2 A2
    c = G^-1 g                   u = L'L Q c

which is row ``probe`` of ``pinv(LX) L`` also where the design is singular (a constant confound, fewer frames than
regressors), at the condition number of ``L`` alone.

The AR(1) coefficient of a voxel is the unbiased Yule-Walker estimate on the residuals of ordinary least squares, cut to
hundredths as nilearn's ``run_glm`` does. Residuals are computed in float32; a voxel whose coefficient falls so close to
a cut that float32 could decide otherwise is computed again in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import BadRequest, BadVolume
from mindsight.glm.design import Event, lss_design, nuisance
from mindsight.glm.hrf import Hrf, kernel, regressors
from mindsight.glm.kernels import centre, grouped_dot, lag_sums

Noise = Literal["ols", "ar1"]

_AR_BINS = 100
# OpenBLAS takes one thread for products up to this size (interface/gemm.c). Larger ones would start threads that wait
# for each other by spinning, which on a busy machine costs a hundred times the work.
_ONE_THREAD_PRODUCT = 1 << 18
_TRIALS_AT_ONCE = 24
_RELATIVE_ZERO = 1e-8
_ROUNDING = 1e-12
_FIRST_CAPACITY = 80
# Float32 rounding moves a residual by a few eps of its series; twice that over |e| bounds the coefficient's error.
_AR_DOUBT = 32 * _AR_BINS * float(np.finfo(np.float32).eps)


class _Basis(NamedTuple):
    q_TR: NDArray[np.float64]
    probe_R: NDArray[np.float64]


def _basis(design_TP: NDArray[np.float64]) -> _Basis:
    """Orthonormal columns of the design and the functional that reads column 0's coefficient from them."""
    q, s, wt = np.linalg.svd(design_TP, full_matrices=False)
    keep = s > s[0] * max(design_TP.shape) * np.finfo(np.float64).eps
    return _Basis(np.ascontiguousarray(q[:, keep]), wt[keep, 0] / s[keep])


class StreamingGLM:
    """Single-trial betas of one run.

    n_voxels : V
    tr_s : seconds from frame to frame
    hrf : "glover" or "spm"
    high_pass_hz : cut of the cosine drifts; 0 leaves the constant alone
    noise : "ols", or "ar1" for prewhitening with one coefficient per voxel
    n_confounds : C, columns given with every ``push``

    Raises BadRequest (``glm.option``) for options that make no model.
    """

    def __init__(
        self,
        n_voxels: int,
        tr_s: float,
        hrf: Hrf = "glover",
        high_pass_hz: float = 0.01,
        noise: Noise = "ols",
        n_confounds: int = 0,
    ) -> None:
        if hrf not in ("glover", "spm") or noise not in ("ols", "ar1"):
            raise BadRequest(
                f"expected hrf glover or spm and noise ols or ar1, got {hrf!r} and {noise!r}", code="glm.option"
            )
        if not 0.0 <= high_pass_hz * tr_s < 0.5:
            raise BadRequest(
                f"expected a high-pass below half the sampling rate, {0.5 / tr_s:g} Hz, got {high_pass_hz!r} Hz",
                code="glm.option",
            )
        self.n_voxels = n_voxels
        self.tr_s = tr_s
        self.noise = noise
        self._high_pass_hz = high_pass_hz
        self._kernel_sum = np.cumsum(kernel(hrf, tr_s))
        self._events: list[Event] = []
        self._n_frames = 0
        self._series_VN = np.zeros((n_voxels, _FIRST_CAPACITY), np.float32)
        self._baseline_V = np.zeros(n_voxels)
        self._has_baseline = False
        self._confounds = np.zeros((_FIRST_CAPACITY, n_confounds))
        self._censored = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._regressors: NDArray[np.float64] | None = None
        self._nuisance: NDArray[np.float64] | None = None

    @property
    def n_frames(self) -> int:
        """Volumes pushed so far."""
        return self._n_frames

    @property
    def events(self) -> tuple[Event, ...]:
        """The events in the order they were added."""
        return tuple(self._events)

    @property
    def started(self) -> tuple[int, ...]:
        """Trials that ``beta`` answers now: their onset is not after the last frame, and there are two frames."""
        return tuple(event.trial for event in self._events if event.trial is not None and self._has_started(event))

    def add_event(self, event: Event) -> None:
        """Declare an event, before or after its time. Raises BadRequest (``trial.duplicate``)."""
        if event.trial is not None and any(event.trial == other.trial for other in self._events):
            raise BadRequest(
                f"expected a trial that is not there yet, got trial {event.trial} a second time",
                code="trial.duplicate",
                trial=event.trial,
            )
        self._events.append(event)
        self._regressors = None

    def push(self, y_V: ArrayLike, confounds_C: ArrayLike | None = None, censored: bool = False) -> None:
        """Append the next frame.

        y_V : (V,) voxel values; without influence on any beta where ``censored``
        confounds_C : (C,) confounds, raw
        censored : give the frame a regressor of its own, which takes it out of the fit

        Raises BadVolume (``volume.voxel_count``, ``volume.not_finite``) and BadRequest (``confounds.shape``).
        """
        y = np.asarray(y_V, dtype=np.float64)
        if y.shape != (self.n_voxels,):
            raise BadVolume(f"expected ({self.n_voxels},) voxels, got {y.shape}", code="volume.voxel_count")
        confounds = np.zeros(0) if confounds_C is None else np.asarray(confounds_C, dtype=np.float64)
        if confounds.shape != self._confounds.shape[1:]:
            raise BadRequest(
                f"expected {self._confounds.shape[1]} confounds, got shape {confounds.shape}", code="confounds.shape"
            )
        if not (np.isfinite(y).all() and np.isfinite(confounds).all()):
            raise BadVolume("expected finite voxels and confounds, got NaN or infinity", code="volume.not_finite")
        if self._n_frames == self._censored.size:
            self._grow()
        # Differences to the first good frame, so that float32 keeps what varies; the constant absorbs the rest.
        if not self._has_baseline and not censored:
            self._baseline_V = y.copy()
            self._has_baseline = True
        self._series_VN[:, self._n_frames] = (y - self._baseline_V) if self._has_baseline else 0.0
        self._confounds[self._n_frames] = confounds
        self._censored[self._n_frames] = censored
        self._n_frames += 1
        self._regressors = self._nuisance = None

    def beta(self, trial: int) -> NDArray[np.float64]:
        """(V,) response to the trial, in units of the voxel values, from the frames so far.

        Raises BadRequest (``trial.unknown``, ``trial.not_started``).
        """
        basis = _basis(self._design(trial))
        if self.noise == "ols":
            weights_T = basis.q_TR @ basis.probe_R
            return self._weighted(weights_T[None], np.zeros(self.n_voxels, np.int64))
        hundredths, bin_V = np.unique(self._ar_hundredths(basis.q_TR), return_inverse=True)
        return self._weighted(_ar_weights(basis, hundredths / _AR_BINS), bin_V)

    def betas(self) -> NDArray[np.float64]:
        """(K, V) ``beta`` of all trials in ``started``, in that order; all at once where the noise is OLS."""
        trials = self.started
        if self.noise == "ar1" or not trials:
            return np.array([self.beta(trial) for trial in trials]).reshape(-1, self.n_voxels)
        events, regressors_TK, nuisance_TP = self._parts()
        weights_TK = _all_ols_weights(regressors_TK, nuisance_TP)
        place = [k for k, event in enumerate(events) if event.trial is not None]
        weights_TK = weights_TK[:, place]
        parts = np.array_split(weights_TK.astype(np.float32), range(_TRIALS_AT_ONCE, len(trials), _TRIALS_AT_ONCE), 1)
        parts = [np.ascontiguousarray(part_TK) for part_TK in parts]
        mean_V = self._baseline_V.copy()
        beta_KV = np.empty((len(trials), self.n_voxels))
        size = max(_ONE_THREAD_PRODUCT // parts[0].size, 1)
        centred_VT = np.empty((size, self._n_frames), np.float32)
        for start in range(0, self.n_voxels, size):
            block_VT = centred_VT[: self.n_voxels - start]
            centre(self._series_VN, start, block_VT, mean_V)
            for k, part_TK in enumerate(parts):
                rows = slice(k * _TRIALS_AT_ONCE, (k + 1) * _TRIALS_AT_ONCE)
                beta_KV[rows, start : start + size] = (block_VT @ part_TK).T
        # Weights sum to zero, except with fewer frames than regressors: see ``_weighted``.
        sums_K = weights_TK.sum(axis=0)
        for trial in np.flatnonzero(np.abs(sums_K) > _ROUNDING * np.abs(weights_TK).sum(axis=0)):
            beta_KV[trial] += sums_K[trial] * mean_V
        return beta_KV

    def series(self) -> NDArray[np.float32]:
        """(T, V) the frames so far, as pushed (to float32)."""
        return (self._series_VN[:, : self._n_frames].T + self._baseline_V).astype(np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that was pushed and declared; ``load_state`` of an equally made GLM goes on to the same bits."""
        n = self._n_frames
        return {
            "series_VT": self._series_VN[:, :n].copy(),
            "baseline_V": self._baseline_V.copy(),
            "has_baseline": np.array(self._has_baseline),
            "confounds_TC": self._confounds[:n].copy(),
            "censored_T": self._censored[:n].copy(),
            "event_times_K2": np.array([(e.onset_s, e.duration_s) for e in self._events]).reshape(-1, 2),
            "event_trial_K": np.array([0 if e.trial is None else e.trial for e in self._events], np.int64),
            "event_asked_K": np.array([e.trial is not None for e in self._events], np.bool_),
        }

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned."""
        self._n_frames = n = int(state["censored_T"].size)
        room = ((0, _FIRST_CAPACITY),)
        self._series_VN = np.pad(state["series_VT"].astype(np.float32), ((0, 0), *room))
        self._confounds = np.pad(state["confounds_TC"].astype(np.float64), (*room, (0, 0)))
        self._censored = np.pad(state["censored_T"].astype(np.bool_), room)
        self._baseline_V = state["baseline_V"].astype(np.float64)
        self._has_baseline = bool(state["has_baseline"])
        asked = state["event_asked_K"].astype(np.bool_)
        self._events = [
            Event(float(onset), float(duration), int(trial) if is_asked else None)
            for (onset, duration), trial, is_asked in zip(
                state["event_times_K2"].astype(np.float64), state["event_trial_K"].astype(np.int64), asked, strict=True
            )
        ]
        self._regressors = self._nuisance = None
        assert self._series_VN.shape == (self.n_voxels, n + _FIRST_CAPACITY)

    def _grow(self) -> None:
        # Odd multiples of a cache line: rows a power of two apart would compete for the same cache sets.
        more = self._censored.size + 16
        self._series_VN = np.pad(self._series_VN, ((0, 0), (0, more)))
        self._confounds = np.pad(self._confounds, ((0, more), (0, 0)))
        self._censored = np.pad(self._censored, (0, more))

    def _has_started(self, event: Event) -> bool:
        return self._n_frames >= 2 and event.onset_s <= (self._n_frames - 1) * self.tr_s

    def _design(self, trial: int) -> NDArray[np.float64]:
        event = next((event for event in self._events if event.trial == trial), None)
        if event is None:
            raise BadRequest(
                f"expected a trial that was declared, got trial {trial}", code="trial.unknown", trial=trial
            )
        if not self._has_started(event):
            raise BadRequest(
                f"expected a trial that has started, got trial {trial} with its onset at {event.onset_s:g} s after"
                f" {self._n_frames} volumes of {self.tr_s:g} s",
                code="trial.not_started",
                trial=trial,
            )
        events, regressors_TK, nuisance_TP = self._parts()
        return lss_design(regressors_TK, events.index(event), nuisance_TP)

    def _parts(self) -> tuple[list[Event], NDArray[np.float64], NDArray[np.float64]]:
        """The events that have started, their regressors (T, K) and the nuisance (T, P); made once per frame."""
        started = [event for event in self._events if self._has_started(event)]
        if self._regressors is None:
            onsets = np.array([event.onset_s for event in started])
            durations = np.array([event.duration_s for event in started])
            self._regressors = regressors(self._kernel_sum, onsets, durations, self._n_frames, self.tr_s)
        if self._nuisance is None:
            n = self._n_frames
            self._nuisance = nuisance(self._confounds[:n], self._censored[:n], self.tr_s, self._high_pass_hz)
        return started, self._regressors, self._nuisance

    def _weighted(self, weights_BT: NDArray[np.float64], bin_V: NDArray[np.int64]) -> NDArray[np.float64]:
        beta_V: NDArray[np.float64] = grouped_dot(self._series_VN, weights_BT, bin_V)
        # Zero, except with fewer frames than regressors, where the minimum-norm answer depends on the mean.
        beta_V += weights_BT.sum(axis=1)[bin_V] * self._baseline_V
        return beta_V

    def _ar_hundredths(self, q_TR: NDArray[np.float64]) -> NDArray[np.int64]:
        """(V,) AR(1) coefficient of each voxel's residuals, in hundredths cut towards zero."""
        n, rank = q_TR.shape
        if rank >= n:  # nothing is left over; every whitening has the same solution then
            return np.zeros(self.n_voxels, np.int64)
        q32_TR, qt32_RT = q_TR.astype(np.float32), np.ascontiguousarray(q_TR.T.astype(np.float32))
        sums_V3 = np.empty((self.n_voxels, 3))
        size = max(_ONE_THREAD_PRODUCT // (n * rank), 1)
        fit_VT = np.empty((size, n), np.float32)
        for start in range(0, self.n_voxels, size):
            series_VT = self._series_VN[start : start + size, :n]
            block_VT = fit_VT[: len(series_VT)]
            np.matmul(series_VT @ q32_TR, qt32_RT, out=block_VT)
            lag_sums(block_VT, self._series_VN, start, sums_V3)
        rho_V = _yule_walker(sums_V3[:, 0], sums_V3[:, 1], n) * _AR_BINS
        doubt_V = _AR_DOUBT * np.sqrt(sums_V3[:, 2] / np.maximum(sums_V3[:, 0], np.finfo(np.float64).tiny))
        doubtful = np.flatnonzero(np.abs(rho_V - np.rint(rho_V)) <= doubt_V)
        if doubtful.size:
            y_VT = self._series_VN[doubtful, :n].astype(np.float64)
            e_VT = y_VT - (y_VT @ q_TR) @ q_TR.T
            r0_V, r1_V = np.einsum("vt,vt->v", e_VT, e_VT), np.einsum("vt,vt->v", e_VT[:, 1:], e_VT[:, :-1])
            rho_V[doubtful] = _yule_walker(r0_V, r1_V, n) * _AR_BINS
        return rho_V.astype(np.int64)


def _yule_walker(r0_V: NDArray[np.float64], r1_V: NDArray[np.float64], n_frames: int) -> NDArray[np.float64]:
    """Lag-1 over lag-0 covariance, each divided by its number of products; 0 for a voxel without residuals."""
    silent = r0_V <= 0.0
    rho_V: NDArray[np.float64] = (r1_V / (n_frames - 1)) / (np.where(silent, 1.0, r0_V) / n_frames)
    rho_V[silent] = 0.0
    return rho_V


def _ar_weights(basis: _Basis, rho_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, T) weights whose dot product with a series is the probe's generalised least-squares estimate."""
    q_TR = basis.q_TR
    cross_RR = q_TR[1:].T @ q_TR[:-1]
    inner_RR = q_TR[:-1].T @ q_TR[:-1]
    rho = rho_B[:, None, None]
    gram_BRR = np.eye(q_TR.shape[1]) - rho * (cross_RR + cross_RR.T) + rho**2 * inner_RR
    c_BR1 = np.linalg.solve(gram_BRR, basis.probe_R[:, None])
    fitted_BT = c_BR1[:, :, 0] @ q_TR.T
    white_BT = fitted_BT.copy()
    white_BT[:, 1:] -= rho_B[:, None] * fitted_BT[:, :-1]
    weights_BT = white_BT.copy()
    weights_BT[:, :-1] -= rho_B[:, None] * white_BT[:, 1:]
    return weights_BT


def _all_ols_weights(regressors_TK: NDArray[np.float64], nuisance_TP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, K) for each event the weights of its least-squares-separate estimate without whitening.

    With the nuisance projected out, two columns are left per event: its own, p, and the sum of the others, r. Where
    these do not determine the estimate (too few frames, an event whose response has not begun), the whole design does.
    """
    q_TR = _basis(nuisance_TP).q_TR
    own_TK = regressors_TK - q_TR @ (q_TR.T @ regressors_TK)
    rest_TK = own_TK.sum(axis=1, keepdims=True) - own_TK
    pp, pr, rr = (own_TK**2).sum(0), (own_TK * rest_TK).sum(0), (rest_TK**2).sum(0)
    determinant = pp * rr - pr**2
    raw = (regressors_TK**2).sum(0)
    sound = (pp > _RELATIVE_ZERO * raw) & (rr > _RELATIVE_ZERO * raw) & (determinant > _RELATIVE_ZERO * pp * rr)
    weights_TK: NDArray[np.float64] = (rr * own_TK - pr * rest_TK) / np.where(sound, determinant, 1.0)
    for k in np.flatnonzero(~sound):
        basis = _basis(lss_design(regressors_TK, int(k), nuisance_TP))
        weights_TK[:, k] = basis.q_TR @ basis.probe_R
    return weights_TK
