"""Which GLM fits this person and this experiment: decided on the calibration runs, before any trial is tested.

Knows nothing of files. Letters: T frames, V voxels, C confounds, K trials of a run, R runs, O options.

Two things are decided, each against the default and only where the gain is clear from run to run:

- the lag of the events, by how much of the voxels' variance one regressor for all trials explains. No label enters. Two
  standard errors, since the best of many lags looks good by chance.
- the high-pass, by the log loss of the linear decoder on runs left out. What a block shows that comes once in a run
  lies at frequencies that the usual 0.01 Hz takes away; for brief and dense trials that cut is the right one. One
  standard error, the rule of L. Breiman et al., Classification and Regression Trees, 1984.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindsight.glm import Event, Normaliser, StreamingGLM
from mindsight.glm.design import nuisance
from mindsight.glm.hrf import kernel, regressors
from mindsight.inference import z_scored
from mindsight.ingest import IngestOptions
from mindsight.retrieval import CandidatePool
from training.linear import RunTrials, leave_one_run_out

LAGS_S = tuple(float(lag) for lag in np.arange(-9.0, 9.1, 1.5))
HIGH_PASSES_HZ = (0.01, 0.005, 0.002)


@dataclass(frozen=True, eq=False)
class VoxelRun:
    """One calibration run in the subject's space.

    series_TV : (T, V) voxel values
    confounds_TC, censored_T : of each frame
    events : as recorded; a trial has a number
    shown : trial -> place in the pool of what it showed
    """

    series_TV: NDArray[np.float32]
    confounds_TC: NDArray[np.float64]
    censored_T: NDArray[np.bool_]
    events: tuple[Event, ...]
    shown: Mapping[int, int]
    tr_s: float


def choose_options(runs: Sequence[VoxelRun], pool: CandidatePool, options: IngestOptions) -> IngestOptions:
    """``options`` with the lag and the high-pass that these runs (two or more) ask for."""
    explained_RO = np.array([[_explained(run, replace(options, event_lag_s=lag)) for lag in LAGS_S] for run in runs])
    lag = _best(explained_RO, LAGS_S.index(options.event_lag_s), standard_errors=2.0)
    options = replace(options, event_lag_s=LAGS_S[lag])
    losses_OR = [_log_losses(runs, replace(options, high_pass_hz=high_pass), pool) for high_pass in HIGH_PASSES_HZ]
    high_pass = _best(-np.array(losses_OR).T, HIGH_PASSES_HZ.index(options.high_pass_hz), standard_errors=1.0)
    return replace(options, high_pass_hz=HIGH_PASSES_HZ[high_pass])


def _best(gain_RO: NDArray[np.float64], default: int, standard_errors: float) -> int:
    """The option of greatest mean over the runs, if it beats the default by more than so many standard errors."""
    best = int(np.argmax(gain_RO.mean(axis=0)))
    more_R = gain_RO[:, best] - gain_RO[:, default]
    standard_error = more_R.std(ddof=1) / np.sqrt(len(more_R))
    return best if more_R.mean() > standard_errors * standard_error else default


def _explained(run: VoxelRun, options: IngestOptions) -> float:
    """Share of the variance, beyond drifts and confounds, that one regressor for all trials explains (0 to 1)."""
    onsets = np.array([event.onset_s + options.event_lag_s for event in run.events])
    durations = np.array([event.duration_s for event in run.events])
    kernel_sum = np.cumsum(kernel(options.hrf, run.tr_s))
    task_T = regressors(kernel_sum, onsets, durations, len(run.series_TV), run.tr_s).sum(axis=1)
    q_TP, _ = np.linalg.qr(nuisance(run.confounds_TC, run.censored_T, run.tr_s, options.high_pass_hz))
    left_TV = run.series_TV - q_TP @ (q_TP.T @ run.series_TV)
    task_T = task_T - q_TP @ (q_TP.T @ task_T)
    explained: float = ((task_T @ left_TV) ** 2).sum() / (task_T @ task_T) / (left_TV**2).sum()
    return explained


def _log_losses(runs: Sequence[VoxelRun], options: IngestOptions, pool: CandidatePool) -> list[float]:
    """Per run, the mean negative log probability of what was shown, by a decoder fitted to the other runs."""
    trials = [_trials(run, options) for run in runs]
    held_out = leave_one_run_out(trials, pool, np.random.default_rng(0))
    probabilities_KN = held_out.calibration.probabilities(held_out.scores_KN)
    losses_K = -np.log(probabilities_KN[held_out.right_KN])
    ends = np.cumsum([len(run.shown_K) for run in trials])
    return [float(losses.mean()) for losses in np.split(losses_K, ends[:-1])]


def _trials(run: VoxelRun, options: IngestOptions) -> RunTrials:
    """The trials of a whole run as ingest gives them at its end."""
    n_voxels, n_confounds = run.series_TV.shape[1], run.confounds_TC.shape[1]
    glm = StreamingGLM(n_voxels, run.tr_s, options.hrf, options.high_pass_hz, options.noise, n_confounds)
    for event in run.events:
        glm.add_event(replace(event, onset_s=event.onset_s + options.event_lag_s))
    for y_V, confounds_C, censored in zip(run.series_TV, run.confounds_TC, run.censored_T, strict=True):
        glm.push(y_V, confounds_C, bool(censored))
    normaliser = Normaliser(n_voxels, "run", None, min_betas=2)
    betas = {trial: glm.beta(trial).astype(np.float32) for trial in glm.started}
    for trial, beta_V in betas.items():
        normaliser.put(trial, beta_V)
    statistics, _ = normaliser.statistics(next(iter(betas)))
    z_KV = z_scored(np.stack(list(betas.values())), statistics.mean_V, statistics.std_V)
    return RunTrials(z_KV, np.array([run.shown[trial] for trial in betas]))
