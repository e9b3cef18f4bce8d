"""The options of a subject's GLM, chosen on calibration runs: each compared with the default, and only if the gain is
clear from run to run.

Knows nothing of files. Letters: T frames, V voxels, C confounds, K trials of a run, R runs, O options, S shapes.

They are chosen in this order, each with the choices before it:

- the lag of the events, by the share of the voxels' variance that one regressor for all trials explains, without
  labels. The gain must exceed two standard errors, since the best of many lags looks good by chance.
- the high-pass, by the log loss of the linear decoder on runs left out. A block design that repeats once per run has
  its signal below the usual cut-off of 0.01 Hz; for brief and dense trials that cut-off is right. The gain must exceed
  one standard error, the rule of L. Breiman et al., Classification and Regression Trees, 1984.
- the duration of the events, slice timing, a response per voxel out of ``LIBRARY``, ridge for revised and final betas,
  and noise components, each by the same loss. These help some subjects and experiments and harm others, so the bar is
  higher: Student's one-sided test over the runs at 5 %, divided by the number of options (Bonferroni). Two runs can
  hardly pass it.

The response of each voxel and the noise pool are found by the same one regressor for all trials, without labels, from
all runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mindsight.decoding import z_scored
from mindsight.events import in_model_time
from mindsight.glm import Event, Normaliser, StreamingGLM
from mindsight.glm.design import nuisance
from mindsight.glm.hrf import LIBRARY, Hrf, Shape, kernel, regressors
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool
from training.calibration.linear_choice import RunTrials, leave_one_run_out

LAGS_S = tuple(float(lag) for lag in np.arange(-9.0, 9.1, 1.5))
HIGH_PASSES_HZ = (0.01, 0.005, 0.002)
DURATIONS_S = (0.0, 1.0)
RIDGE_FRACTIONS = (0.5, 0.8)
N_COMPONENTS = (2, 4)
_SIGNIFICANCE = 0.05
_MAX_POOL = 1000
_LAGS_PER_TR = 8  # each lag has a design of its own, which costs about a millisecond; the response does not need finer


@dataclass(frozen=True, eq=False)
class VoxelRun:
    """One calibration run in the subject's space.

    series_TV : (T, V) voxel values
    confounds_TC, censored_T : of each frame
    events : as recorded; a trial has a number
    shown : trial -> index in the pool of what it showed
    """

    series_TV: NDArray[np.float32]
    confounds_TC: NDArray[np.float64]
    censored_T: NDArray[np.bool_]
    events: tuple[Event, ...]
    shown: Mapping[int, int]
    tr_s: float


@dataclass(frozen=True, eq=False)
class Chosen:
    """``options``, and the per-voxel fields of ``SubjectSpace``: None if the default stays."""

    options: IngestOptions
    hrf_V: NDArray[np.uint8] | None = None
    lag_V: NDArray[np.float32] | None = None
    noise_pool_V: NDArray[np.bool_] | None = None

    def differs_from(self, options: IngestOptions) -> bool:
        """Whether anything was chosen that is not in these options."""
        of_voxels = (self.hrf_V, self.lag_V, self.noise_pool_V)
        return self.options != options or any(values is not None for values in of_voxels)


def choose(
    runs: Sequence[VoxelRun],
    pool: CandidatePool,
    options: IngestOptions,
    lag_V: NDArray[np.float32] | None = None,
    *,
    noise_components: bool = True,
) -> Chosen:
    """``options`` with the changes that these runs (two or more) support.

    lag_V : see ``slice_lags``; None if slice times are unknown
    noise_components : whether they are tried
    """
    lags_s, cuts_hz = _with(options.event_lag_s, LAGS_S), _with(options.high_pass_hz, HIGH_PASSES_HZ)
    explained_RO = np.array([[_explained(run, replace(options, event_lag_s=lag)) for lag in lags_s] for run in runs])
    lag = _best(explained_RO, lags_s.index(options.event_lag_s), standard_errors=2.0)
    options = replace(options, event_lag_s=lags_s[lag])
    losses_OR = [_log_losses(runs, Chosen(replace(options, high_pass_hz=cut)), pool) for cut in cuts_hz]
    high_pass = _best(-np.array(losses_OR).T, cuts_hz.index(options.high_pass_hz), standard_errors=1.0)
    chosen, losses_R = Chosen(replace(options, high_pass_hz=cuts_hz[high_pass])), losses_OR[high_pass]

    def improve(candidates: Sequence[Chosen]) -> None:
        nonlocal chosen, losses_R
        losses_OR = [losses_R, *(_log_losses(runs, candidate, pool) for candidate in candidates)]
        best = significantly_best(-np.array(losses_OR).T)
        chosen, losses_R = [chosen, *candidates][best], losses_OR[best]

    improve([replace(chosen, options=replace(chosen.options, event_duration_s=s)) for s in DURATIONS_S])
    if lag_V is not None:
        improve([replace(chosen, lag_V=lag_V)])
    improve([replace(chosen, hrf_V=responses(runs, chosen.options))])
    improve([replace(chosen, options=replace(chosen.options, ridge_fraction=f)) for f in RIDGE_FRACTIONS])
    if noise_components:
        with_pool = replace(chosen, noise_pool_V=noise_pool(runs, chosen.options))
        improve([replace(with_pool, options=replace(chosen.options, n_noise_components=n)) for n in N_COMPONENTS])
    return chosen


def _with(present: float, usual: tuple[float, ...]) -> tuple[float, ...]:
    """What is tried: the usual values, and the one that the runs were estimated with."""
    return usual if present in usual else (*usual, present)


def _best(gain_RO: NDArray[np.float64], default: int, standard_errors: float) -> int:
    """The option of greatest mean over the runs, if it exceeds the default by more than ``standard_errors``."""
    best = int(np.argmax(gain_RO.mean(axis=0)))
    more_R = gain_RO[:, best] - gain_RO[:, default]
    standard_error = more_R.std(ddof=1) / np.sqrt(len(more_R))
    return best if more_R.mean() > standard_errors * standard_error else default


def significantly_best(gain_RO: NDArray[np.float64]) -> int:
    """The option of greatest mean over the runs, if Student's test finds it above option 0; else 0."""
    n_runs, n_options = gain_RO.shape
    return _best(gain_RO, 0, float(stats.t.ppf(1.0 - _SIGNIFICANCE / (n_options - 1), n_runs - 1)))


def _explained(run: VoxelRun, options: IngestOptions) -> float:
    """Share of the variance, beyond drifts and confounds, that one regressor for all trials explains (0 to 1)."""
    explained_V, left_V = _explained_squares(run, options, options.hrf)
    share: float = explained_V.sum() / left_V.sum()
    return share


def _explained_squares(
    run: VoxelRun, options: IngestOptions, hrf: Hrf | Shape
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(V,) sum of squares, beyond drifts and confounds, that one regressor for all trials explains, and of all."""
    onsets = np.array([event.onset_s for event in _modelled(run, options)])
    durations = np.array([event.duration_s for event in _modelled(run, options)])
    kernel_sum = np.cumsum(kernel(hrf, run.tr_s))
    task_T = regressors(kernel_sum, onsets, durations, len(run.series_TV), run.tr_s).sum(axis=1)
    q_TP, _ = np.linalg.qr(nuisance(run.confounds_TC, run.censored_T, run.tr_s, options.high_pass_hz))
    left_TV = run.series_TV - q_TP @ (q_TP.T @ run.series_TV)
    task_T = task_T - q_TP @ (q_TP.T @ task_T)
    return (task_T @ left_TV) ** 2 / (task_T @ task_T), (left_TV**2).sum(axis=0)


def responses(runs: Sequence[VoxelRun], options: IngestOptions) -> NDArray[np.uint8]:
    """(V,) for each voxel the shape of ``LIBRARY`` that explains most of its variance over all runs."""
    explained_RSV = np.array([[_explained_squares(run, options, shape)[0] for shape in LIBRARY] for run in runs])
    best_V: NDArray[np.intp] = explained_RSV.sum(axis=0).argmax(axis=0)
    return best_V.astype(np.uint8)


def slice_lags(space: SubjectSpace) -> NDArray[np.float32] | None:
    """(V,) seconds from the middle of all slice times to the time of each voxel's slice, to an eighth of the TR.

    These are differences between slices; what all slices have in common is the option ``event_lag_s``. None if the
    times are unknown or all equal.
    """
    times_s = space.reference.slice_times_s
    if times_s is None:
        return None
    step_s = space.reference.tr_s / _LAGS_PER_TR
    lag_Z = np.rint((times_s - (times_s.min() + times_s.max()) / 2.0) / step_s) * step_s
    lag_V: NDArray[np.float32] = lag_Z[np.argwhere(space.mask_XYZ)[:, 2]].astype(np.float32)
    return lag_V if np.ptp(lag_V) > 0.0 else None


def noise_pool(runs: Sequence[VoxelRun], options: IngestOptions) -> NDArray[np.bool_]:
    """(V,) the voxels whose variance the trials explain least over all runs: half of all, at most 1,000."""
    squares_R2V = np.array([_explained_squares(run, options, options.hrf) for run in runs])
    explained_V, left_V = squares_R2V.sum(axis=0)
    share_V = np.where(left_V > 0.0, explained_V / np.where(left_V > 0.0, left_V, 1.0), np.inf)
    pool_V = np.zeros(share_V.size, np.bool_)
    pool_V[np.argsort(share_V, kind="stable")[: min(share_V.size // 2, _MAX_POOL)]] = True
    return pool_V


def _modelled(run: VoxelRun, options: IngestOptions) -> list[Event]:
    """The run's events as ingest puts them into the model."""
    duration_s = options.event_duration_s
    times_K = [
        in_model_time(event.onset_s + options.event_lag_s, event.duration_s if duration_s is None else duration_s)
        for event in run.events
    ]
    return [
        Event(*times_s, event.trial) for event, times_s in zip(run.events, times_K, strict=True) if times_s is not None
    ]


def _log_losses(runs: Sequence[VoxelRun], chosen: Chosen, pool: CandidatePool) -> list[float]:
    """Per run, the mean negative log probability of what was shown, by a decoder fitted to the other runs."""
    trials = [_trials(run, chosen) for run in runs]
    held_out = leave_one_run_out(trials, pool, np.random.default_rng(0))
    ends = np.cumsum([len(run.shown_K) for run in trials])
    return [float(losses.mean()) for losses in np.split(held_out.log_loss_K, ends[:-1])]


def _trials(run: VoxelRun, chosen: Chosen) -> RunTrials:
    """The trials of a whole run as ingest gives them at its end (where both modes' bases are the same)."""
    n_voxels, n_confounds = run.series_TV.shape[1], run.confounds_TC.shape[1]
    options = chosen.options
    glm = StreamingGLM(
        n_voxels,
        run.tr_s,
        options.hrf,
        options.high_pass_hz,
        options.noise,
        n_confounds,
        hrf_V=chosen.hrf_V,
        lag_V=chosen.lag_V,
        noise_pool_V=chosen.noise_pool_V,
        n_components=options.n_noise_components,
    )
    for event in _modelled(run, options):
        glm.add_event(event)
    for y_V, confounds_C, censored in zip(run.series_TV, run.confounds_TC, run.censored_T, strict=True):
        glm.push(y_V, confounds_C, bool(censored))
    fraction, trials = options.ridge_fraction, glm.started
    betas_KV = glm.betas() if fraction is None else glm.ridge_betas(trials, fraction)
    betas = dict(zip(trials, betas_KV.astype(np.float32), strict=True))
    normaliser = Normaliser(n_voxels, "run", None, min_betas=2)
    for trial, beta_V in betas.items():
        normaliser.put(trial, beta_V)
    statistics, _ = normaliser.statistics(next(iter(betas)))
    labelled = [trial for trial in betas if trial in run.shown]
    z_KV = z_scored(np.stack([betas[trial] for trial in labelled]), statistics.mean_V, statistics.std_V)
    return RunTrials(z_KV, np.array([run.shown[trial] for trial in labelled]))
