"""The streaming single-trial GLM: after every volume, the estimate on the data so far.

Knows nothing of volumes, files or the clock. Letters: V voxels, T frames so far, P regressors, R rank of the design, C
confounds, K trials, G groups of voxels with one response shape.

The history is kept (float32, one row per voxel) and only the weights of ``estimators`` are computed again, so that the
whole design may change with every frame, as nilearn's cosine basis does, and the estimate still equals the batch fit.

By default the cosine basis is nilearn's, over the frames so far. It changes with each frame and gains columns as the
run grows, which moves the betas of trials that were over long ago. With ``n_planned`` the basis is that of the whole
planned run from the first frame on, and finished trials no longer move for this reason (``ingest`` then keeps their
betas). Precisely:

- a frame's row of the design, once pushed, never changes, nor does the number of columns, except for a column per
  censored frame, events that are declared late, and noise components if they are requested;
- frames, and events in them, that are exactly what the fit so far predicts leave its betas unchanged (for a given
  autocorrelation of the noise): only new information in the data moves a beta;
- at the planned length the betas are those of the default.

The cost is at the start: the first betas of a run share few frames among all drifts of the run. Figures are in
docs/betas-and-quality.md. Use it if betas of one trial at different times are compared or collected, and the default
where the fast beta matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import BadRequest
from mindsight.glm.design import Event, lss_design, nuisance
from mindsight.glm.estimators import (
    Basis,
    Estimator,
    ar_estimator,
    of_design,
    ols_estimator,
    ridge_weights,
)
from mindsight.glm.history import History
from mindsight.glm.hrf import Hrf, regressors, response_energy
from mindsight.glm.kernels import grouped_dot
from mindsight.glm.noise import AR_BINS, Residuals, common_components
from mindsight.glm.together import Directions, separate_estimates, separate_ols_betas
from mindsight.glm.voxel_course import VoxelCourse, voxel_course
from mindsight.glm.voxel_groups import VoxelGroup, VoxelGroups

Noise = Literal["ols", "ar1"]

_TYPICAL_VOXELS = 1000


class Estimate(NamedTuple):
    """(V,) float64 each, in units of the voxel values."""

    beta_V: NDArray[np.float64]
    error_V: NDArray[np.float64]


class StreamingGLM:
    """Single-trial betas of one run.

    n_voxels : V
    tr_s : seconds from frame to frame
    hrf : "glover" or "spm", for all voxels if ``hrf_V`` is not given
    high_pass_hz : cut of the cosine drifts; 0 leaves the constant alone
    noise : "ols", or "ar1" for prewhitening with one coefficient per voxel
    n_confounds : C, columns given with every ``push``
    n_planned : frames of the whole run (two or more): keep one basis throughout; None: as nilearn, see above
    hrf_V : (V,) index in ``hrf.LIBRARY`` of each voxel's response
    lag_V : (V,) seconds after the frame's time at which each voxel is measured (its slice's time): the regressors are
        those of that moment, nothing is interpolated. Each different lag has its own design, so few are faster
    noise_pool_V : (V,) bool, voxels without a response to the events; their ``n_components`` first common components
        are regressors

    Raises BadRequest (``glm.option``) for options that do not fit each other.
    """

    def __init__(
        self,
        n_voxels: int,
        tr_s: float,
        hrf: Hrf = "glover",
        high_pass_hz: float = 0.01,
        noise: Noise = "ols",
        n_confounds: int = 0,
        *,
        n_planned: int | None = None,
        hrf_V: NDArray[np.integer[Any]] | None = None,
        lag_V: NDArray[np.floating[Any]] | None = None,
        noise_pool_V: NDArray[np.bool_] | None = None,
        n_components: int = 0,
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
        if n_planned is not None and n_planned < 2:
            raise BadRequest(f"expected two or more planned frames, got {n_planned}", code="glm.option")
        if n_components > 0 and noise_pool_V is None:
            raise BadRequest("expected a noise pool to take components from, got none", code="glm.option")
        self.n_voxels = n_voxels
        self.tr_s = tr_s
        self.noise = noise
        self._high_pass_hz = high_pass_hz
        self._n_planned = n_planned
        self._voxels = VoxelGroups.of(n_voxels, tr_s, hrf, hrf_V, lag_V)
        self._n_components = n_components
        pool = np.zeros(0, np.int64) if noise_pool_V is None else np.flatnonzero(noise_pool_V)
        self._pool = self._voxels.rows_of(pool)
        self._events: list[Event] = []
        self._history = History(n_voxels, n_confounds)
        self._regressors: list[NDArray[np.float64]] | None = None
        self._nuisance: NDArray[np.float64] | None = None
        self._last_bases: tuple[Event, list[tuple[VoxelGroup, Basis]]] | None = None

    @property
    def n_frames(self) -> int:
        """Volumes pushed so far."""
        return self._history.n_frames

    @property
    def events(self) -> tuple[Event, ...]:
        """The events in the order they were added."""
        return tuple(self._events)

    @property
    def started(self) -> tuple[int, ...]:
        """Trials that have a ``beta`` now: their onset is not after the last frame, and there are two frames."""
        return tuple(event.trial for event in self._events if event.trial is not None and self._has_started(event))

    def add_event(self, event: Event) -> None:
        """Declare an event, before or after its time. Raises BadRequest (``trial.duplicate``)."""
        if event.trial is not None and any(event.trial == other.trial for other in self._events):
            raise BadRequest(
                f"expected a new trial, got trial {event.trial} a second time",
                code="trial.duplicate",
                trial=event.trial,
            )
        self._events.append(event)
        self._regressors = self._last_bases = None

    def push(self, y_V: ArrayLike, confounds_C: ArrayLike | None = None, censored: bool = False) -> None:
        """Append the next frame.

        y_V : (V,) voxel values; they do not influence any beta if ``censored``
        confounds_C : (C,) confounds, raw
        censored : give the frame its own regressor, which removes it from the fit

        Raises BadVolume (``volume.voxel_count``, ``volume.not_finite``) and BadRequest (``confounds.shape``).
        """
        y, confounds = self._history.checked(y_V, confounds_C)
        self._history.append(self._voxels.sort(y), confounds, censored)
        self._regressors = self._nuisance = self._last_bases = None

    def beta(self, trial: int) -> NDArray[np.float64]:
        """(V,) response to the trial, in units of the voxel values, from the frames so far: least squares, separate.

        Raises BadRequest (``trial.unknown``, ``trial.not_started``).
        """
        parts = []
        for group, basis in self._bases(trial):
            bin_V, rho_B = self._bins(group, basis)
            parts.append(self._weighted(group, self._estimator(basis, rho_B).weights_BT, bin_V))
        return self._voxels.restore(np.concatenate(parts))

    def estimate(self, trial: int) -> Estimate:
        """``beta`` to the same bits, and the standard error of each voxel, in its units: the root of nilearn's
        ``effect_variance``.

        Infinite while no degrees of freedom are left. They are counted by the design's rank; nilearn counts columns,
        which differs if some are redundant. Raises as ``beta``.
        """
        betas, errors = [], []
        for group, basis in self._bases(trial):
            residuals = Residuals(self._history.series_VN[group.rows], basis.q_TR, with_variance=self.noise == "ar1")
            estimator, bin_V, error_V = self._errors(residuals, basis)
            betas.append(self._weighted(group, estimator.weights_BT, bin_V))
            errors.append(error_V)
        return Estimate(self._voxels.restore(np.concatenate(betas)), self._voxels.restore(np.concatenate(errors)))

    def estimates(self, trials: Sequence[int]) -> list[Estimate]:
        """``estimate`` of each of these trials, to rounding; their designs' common part is computed once.

        Raises as ``beta``.
        """
        events = [self._started_event(trial) for trial in trials]
        if not events:
            return []
        started, regressors_G, nuisance_TP = self._parts()
        indices = np.array([started.index(event) for event in events])
        parts_G: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        alone = np.zeros(len(trials), np.bool_)
        for group, regressors_TK in zip(self._voxels.groups, regressors_G, strict=True):
            directions = Directions.of(regressors_TK, indices, nuisance_TP)
            alone |= ~directions.sound_K
            beta_KV, error_KV = np.zeros((2, len(trials), group.rows.stop - group.rows.start))
            if directions.sound_K.any():
                rows_VN = self._history.series_VN[group.rows]
                found = separate_estimates(rows_VN, directions, ar1=self.noise == "ar1")
                beta_KV[directions.sound_K], error_KV[directions.sound_K] = found
            parts_G.append((beta_KV, error_KV))
        betas_KV, errors_KV = (self._voxels.restore(np.hstack(parts)) for parts in zip(*parts_G, strict=True))
        return [
            self.estimate(trial) if is_alone else Estimate(betas_KV[k], errors_KV[k])
            for k, (trial, is_alone) in enumerate(zip(trials, alone, strict=True))
        ]

    def typical_error(self, trial: int) -> float:
        """Median over voxels of ``estimate``'s standard error; of about a thousand voxels if there are more.

        Raises as ``beta``.
        """
        every = max(self.n_voxels // _TYPICAL_VOXELS, 1)
        errors = []
        for group, basis in self._bases(trial):
            rows_VN = np.ascontiguousarray(self._history.series_VN[group.rows][::every, : self._history.n_frames])
            _, _, error_V = self._errors(Residuals(rows_VN, basis.q_TR, with_variance=self.noise == "ar1"), basis)
            errors.append(error_V)
        return float(np.median(np.concatenate(errors)))

    def betas(self) -> NDArray[np.float64]:
        """(K, V) ``beta`` of all trials in ``started``, in that order; all at once if the noise is OLS."""
        trials = self.started
        if self.noise == "ar1" or not trials:
            return np.array([self.beta(trial) for trial in trials]).reshape(-1, self.n_voxels)
        events, regressors_G, nuisance_TP = self._parts()
        indices = np.array([k for k, event in enumerate(events) if event.trial is not None])
        beta_KV = np.empty((len(trials), self.n_voxels))
        for group, regressors_TK in zip(self._voxels.groups, regressors_G, strict=True):
            rows_VN, out_KV = self._history.series_VN[group.rows], beta_KV[:, group.rows]
            sound_K = separate_ols_betas(rows_VN, self._history.n_frames, regressors_TK, nuisance_TP, indices, out_KV)
            for row in np.flatnonzero(~sound_K):
                weights_T = of_design(regressors_TK, int(indices[row]), nuisance_TP)
                out_KV[row] = self._weighted(group, weights_T[None], np.zeros(len(rows_VN), np.int64))
        return self._voxels.restore(beta_KV)

    def ridge_betas(self, trials: Sequence[int], fraction: float) -> NDArray[np.float64]:
        """(K, V) responses to these trials, in units of the voxel values, estimated together by ridge with a column per
        trial: see ``ridge_weights`` for what is minimised.

        An alternative to ``beta`` for late estimates: a response is shrunk until all of it was measured.

        The AR(1) coefficient is that of the residuals of one regressor for all events, nuisance beside it.

        Raises BadRequest (``glm.option``) for a fraction that is not between 0 and 1, and as ``beta``.
        """
        if not 0.0 < fraction < 1.0:
            raise BadRequest(f"expected a ridge fraction between 0 and 1, got {fraction!r}", code="glm.option")
        events, regressors_G, nuisance_TP = self._parts()
        indices = [events.index(self._started_event(trial)) for trial in trials]
        durations_s = np.array([event.duration_s for event in events])
        beta_KV = np.empty((len(indices), self.n_voxels))
        for group, regressors_TK in zip(self._voxels.groups, regressors_G, strict=True):
            bin_V, rho_B = self._bins(group, Basis.of(np.column_stack([regressors_TK.sum(axis=1), nuisance_TP])))
            energy_K = response_energy(group.kernel_sum_L, durations_s, self.tr_s)
            weights_KBT = ridge_weights(regressors_TK, energy_K, nuisance_TP, rho_B, fraction, indices)
            for row, weights_BT in enumerate(weights_KBT):
                beta_KV[row, group.rows] = self._weighted(group, weights_BT, bin_V)
        return self._voxels.restore(beta_KV)

    def course(self, voxel: int, trial: int | None = None) -> VoxelCourse:
        """One voxel's frames so far, and their fit: by the trial's design, or with one column for all events.

        Raises BadRequest (``trial.unknown``, ``trial.not_started``, ``volume.none`` with fewer than two frames).
        """
        if self._history.n_frames < 2:
            raise BadRequest("expected two volumes or more to fit, got fewer: wait", code="volume.none")
        (row,) = self._voxels.rows_of(np.array([voxel]))
        k = next(k for k, group in enumerate(self._voxels.groups) if group.rows.start <= row < group.rows.stop)
        if trial is None:
            _, regressors_G, nuisance_TP = self._parts()
            basis = Basis.of(np.column_stack([regressors_G[k].sum(axis=1), nuisance_TP]))
        else:
            basis = self._bases(trial)[k][1]
        rows_1N = self._history.series_VN[row : row + 1]
        return voxel_course(rows_1N, float(self._history.baseline_V[row]), basis.q_TR, ar1=self.noise == "ar1")

    def series(self) -> NDArray[np.float32]:
        """(T, V) the frames so far, as pushed (to float32)."""
        return self._voxels.restore(self._history.series())

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All volumes and events; a GLM with the same options continues from ``load_state`` to the same bits."""
        return {
            **self._history.state(),
            "event_times_K2": np.array([(e.onset_s, e.duration_s) for e in self._events]).reshape(-1, 2),
            "event_trial_K": np.array([0 if e.trial is None else e.trial for e in self._events], np.int64),
            "event_has_trial_K": np.array([e.trial is not None for e in self._events], np.bool_),
        }

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned."""
        self._history.load_state(state)
        has_trial = state["event_has_trial_K"].astype(np.bool_)
        self._events = [
            Event(float(onset), float(duration), int(trial) if is_trial else None)
            for (onset, duration), trial, is_trial in zip(
                state["event_times_K2"].astype(np.float64),
                state["event_trial_K"].astype(np.int64),
                has_trial,
                strict=True,
            )
        ]
        self._regressors = self._nuisance = self._last_bases = None

    def _has_started(self, event: Event) -> bool:
        return self._history.n_frames >= 2 and event.onset_s <= (self._history.n_frames - 1) * self.tr_s

    def _started_event(self, trial: int) -> Event:
        event = next((event for event in self._events if event.trial == trial), None)
        if event is None:
            raise BadRequest(
                f"expected a trial that was declared, got trial {trial}", code="trial.unknown", trial=trial
            )
        if not self._has_started(event):
            raise BadRequest(
                f"expected a trial that has started, got trial {trial} with its onset at {event.onset_s:g} s after"
                f" {self._history.n_frames} volumes of {self.tr_s:g} s",
                code="trial.not_started",
                trial=trial,
            )
        return event

    def _bases(self, trial: int) -> list[tuple[VoxelGroup, Basis]]:
        """For each group, the basis of the trial's least-squares-separate design; kept for the next call."""
        event = self._started_event(trial)
        events, regressors_G, nuisance_TP = self._parts()
        if self._last_bases is None or self._last_bases[0] is not event:
            probe = events.index(event)
            bases = [
                (group, Basis.of(lss_design(regressors_TK, probe, nuisance_TP)))
                for group, regressors_TK in zip(self._voxels.groups, regressors_G, strict=True)
            ]
            self._last_bases = event, bases
        return self._last_bases[1]

    def _parts(self) -> tuple[list[Event], list[NDArray[np.float64]], NDArray[np.float64]]:
        """Started events, regressors (T, K) of each group, and the nuisance (T, P); computed once per frame."""
        started = [event for event in self._events if self._has_started(event)]
        if self._regressors is None:
            onsets = np.array([event.onset_s for event in started])
            durations = np.array([event.duration_s for event in started])
            self._regressors = [
                regressors(
                    group.kernel_sum_L,
                    onsets - group.lag_s,
                    durations,
                    self._history.n_frames,
                    self.tr_s,
                    self._n_planned,
                )
                for group in self._voxels.groups
            ]
        if self._nuisance is None:
            self._nuisance = nuisance(
                self._history.confounds_TC, self._history.censored_T, self.tr_s, self._high_pass_hz, self._n_planned
            )
            if self._n_components > 0:
                basis = Basis.of(self._nuisance)
                pool_VT = self._history.series_VN[self._pool, : self._history.n_frames]
                self._nuisance = np.hstack([common_components(pool_VT, basis.q_TR, self._n_components), self._nuisance])
        return started, self._regressors, self._nuisance

    def _bins(self, group: VoxelGroup, basis: Basis) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(V,) bin of noise of each voxel of the group, and (B,) the bins' AR(1) coefficients."""
        rows_VN = self._history.series_VN[group.rows]
        if self.noise == "ols":
            return np.zeros(len(rows_VN), np.int64), np.zeros(1)
        return _distinct(Residuals(rows_VN, basis.q_TR))

    def _errors(self, residuals: Residuals, basis: Basis) -> tuple[Estimator, NDArray[np.int64], NDArray[np.float64]]:
        """The estimator of each bin of noise, each voxel's bin, and its standard error."""
        ar1 = self.noise == "ar1"
        bin_V, rho_B = _distinct(residuals) if ar1 else (np.zeros(residuals.n_voxels, np.int64), np.zeros(1))
        estimator = self._estimator(basis, rho_B)
        return estimator, bin_V, np.sqrt(residuals.variance(rho_B, bin_V) * estimator.variance_B[bin_V])

    def _estimator(self, basis: Basis, rho_B: NDArray[np.float64]) -> Estimator:
        return ols_estimator(basis) if self.noise == "ols" else ar_estimator(basis, rho_B)

    def _weighted(
        self, group: VoxelGroup, weights_BT: NDArray[np.float64], bin_V: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        beta_V: NDArray[np.float64] = grouped_dot(self._history.series_VN[group.rows], weights_BT, bin_V)
        # Zero, except with fewer frames than regressors, where the minimum-norm estimate depends on the mean.
        beta_V += weights_BT.sum(axis=1)[bin_V] * self._history.baseline_V[group.rows]
        return beta_V


def _distinct(residuals: Residuals) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(V,) index of each voxel's AR(1) coefficient among (B,) the distinct ones."""
    hundredths_B, bin_V = np.unique(residuals.ar_hundredths(), return_inverse=True)
    return bin_V, hundredths_B / AR_BINS
