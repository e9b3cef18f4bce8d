"""The statistics that a beta is z-scored by: mean and standard deviation of each voxel over other betas.

Knows nothing of volumes, decoders or the order of stages: it is given betas as they become known. V voxels, K
trials.

A run's betas, the newest of each trial, are kept while they may still be revised; those of ended runs are kept as
sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["running", "running_including", "run", "bundle"]
Source = Literal["running", "running_including", "run", "bundle", "none"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """(V,) mean and (V,) standard deviation over ``n`` betas; a standard deviation of 0 marks a silent voxel."""

    mean_V: NDArray[np.float32]
    std_V: NDArray[np.float32]
    n: int


@dataclass(frozen=True, slots=True)
class WarmUp:
    """``n`` betas are known of the ``of`` that the policy's statistics need."""

    n: int
    of: int


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sum and sum of squares, (V,) float64, of ``n`` betas."""

    first_V: NDArray[np.float64]
    second_V: NDArray[np.float64]
    n: int

    @classmethod
    def nothing(cls, n_voxels: int) -> _Sums:
        return cls(np.zeros(n_voxels), np.zeros(n_voxels), 0)

    @classmethod
    def of(cls, beta_V: NDArray[np.float32]) -> _Sums:
        beta = beta_V.astype(np.float64)
        return cls(beta, beta**2, 1)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.first_V + other.first_V, self.second_V + other.second_V, self.n + other.n)

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(self.first_V - other.first_V, self.second_V - other.second_V, self.n - other.n)

    def statistics(self, floor: float) -> Statistics:
        mean_V = self.first_V / self.n
        std_V = np.sqrt(np.maximum(self.second_V / self.n - mean_V**2, 0.0))
        # Below rounding there is no spread: the voxel is silent, not precise.
        std_V[std_V <= 1e-6 * np.abs(mean_V)] = 0.0
        live = std_V > 0.0
        if live.any():
            std_V[live] = np.maximum(std_V[live], floor * np.median(std_V[live]))
        return Statistics(mean_V.astype(np.float32), std_V.astype(np.float32), self.n)


class Normaliser:
    """The betas of a session so far, and the statistics for the next one.

    n_voxels : V
    policy : "running": over all other trials of the session so far, the bundle's statistics counting as ``prior_betas``
        more (at most as many as they rest on), so that no beta is scored by itself; "running_including": the same with
        the trial itself, as the published real-time analysis of MindEye2 has it, which draws the first scores towards
        0; "run": over all trials of the present run so far including the trial itself, without other runs; "bundle": as
        calibrated, always
    bundle : statistics of the calibration, None if there is no bundle
    min_betas : the warm-up. With fewer betas the running policies give no statistics, and "run" takes as many betas as
        it lacks from what is known (the bundle and the runs before) for the standard deviation; the mean remains the
        run's own, since what the betas of a young run share is mostly error. With one beta, or if nothing is known,
        "run" falls back to "running"
    std_floor : lower limit of the standard deviations, as a share of the voxels' median: with few betas a standard
        deviation can be small by chance, and the z-score then huge. 0 sets no limit; a silent voxel stays at 0
    """

    def __init__(
        self,
        n_voxels: int,
        policy: Policy,
        bundle: Statistics | None,
        *,
        min_betas: int = 6,
        prior_betas: int = 16,
        std_floor: float = 0.1,
    ) -> None:
        self._policy = policy
        self._std_floor = std_floor
        self._bundle = bundle
        self._min_betas = min_betas
        self._none = Statistics(np.zeros(n_voxels, np.float32), np.ones(n_voxels, np.float32), 0)
        self._run: dict[int, NDArray[np.float32]] = {}
        self._run_sums = self._ended = self._prior = _Sums.nothing(n_voxels)
        if bundle is not None:
            n = min(bundle.n, prior_betas)
            mean, std = bundle.mean_V.astype(np.float64), bundle.std_V.astype(np.float64)
            self._prior = _Sums(n * mean, n * (std**2 + mean**2), n)

    def put(self, trial: int, beta_V: NDArray[np.float32]) -> None:
        """The newest beta of a trial of the present run."""
        if trial in self._run:
            self._run_sums -= _Sums.of(self._run[trial])
        self._run_sums += _Sums.of(beta_V)
        self._run[trial] = beta_V

    def put_all(self, beta_of: Mapping[int, NDArray[np.float32]]) -> None:
        """The newest betas of several trials of the present run."""
        self._run |= beta_of
        betas_KV = np.array(list(self._run.values()), np.float64)
        self._run_sums = _Sums(betas_KV.sum(axis=0), (betas_KV**2).sum(axis=0), len(betas_KV))

    def end_run(self) -> None:
        """End the present run, whose betas are final; the next ``put`` belongs to another run."""
        self._ended += self._run_sums
        self._run_sums = _Sums.nothing(self._none.mean_V.size)
        self._run = {}

    @property
    def by_run(self) -> bool:
        """Whether the policy is "run"."""
        return self._policy == "run"

    @property
    def n_run(self) -> int:
        """Betas of the present run."""
        return len(self._run)

    def warming_up(self, trial: int) -> WarmUp | None:
        """What the statistics for the trial's beta rest on while they are not yet those of the policy, else None."""
        if self._policy == "bundle":
            return None
        n = len(self._run) if self._policy == "run" else self._running(trial).n
        return WarmUp(n, self._min_betas) if n < self._min_betas else None

    def statistics(self, trial: int) -> tuple[Statistics, Source]:
        """Statistics for the trial's beta, and the policy they follow; "none" is mean 0, standard deviation 1."""
        if self._policy == "bundle":
            return (self._none, "none") if self._bundle is None else (self._bundle, "bundle")
        if self._policy == "run" and len(self._run) >= self._min_betas:
            return self._run_sums.statistics(self._std_floor), "run"
        if self._policy == "run" and len(self._run) > 1 and self._known.n:
            return replace(self._filled_up().statistics(self._std_floor), n=len(self._run)), "run"
        source: Source = "running_including" if self._policy == "running_including" else "running"
        sums = self._running(trial)
        return (sums.statistics(self._std_floor), source) if sums.n >= self._min_betas else (self._none, "none")

    @property
    def _known(self) -> _Sums:
        return self._prior + self._ended

    def _filled_up(self) -> _Sums:
        """The present run and as many betas as it lacks, which have its mean and the spread of those known before."""
        run, known = self._run_sums, self._known
        lacking, mean_V = self._min_betas - run.n, run.first_V / run.n
        variance_V = np.maximum(known.second_V / known.n - (known.first_V / known.n) ** 2, 0.0)
        return run + _Sums(lacking * mean_V, lacking * (variance_V + mean_V**2), lacking)

    def _running(self, trial: int) -> _Sums:
        """Over the session so far; the trial itself counts only by "running_including"."""
        sums = self._known + self._run_sums
        if self._policy != "running_including" and trial in self._run:
            sums -= _Sums.of(self._run[trial])
        return sums

    def state(self) -> dict[str, NDArray[Any]]:
        """The betas so far; ``load_state`` of a normaliser with the same options continues to the same bits."""
        return {
            "ended_2V": np.array([self._ended.first_V, self._ended.second_V]),
            "ended_n": np.array(self._ended.n),
            "run_2V": np.array([self._run_sums.first_V, self._run_sums.second_V]),
            "run_trial_K": np.array(list(self._run), np.int64),
            "run_beta_KV": np.array(list(self._run.values()), np.float32).reshape(-1, self._none.mean_V.size),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what ``state`` returned."""
        self._ended = _Sums(state["ended_2V"][0], state["ended_2V"][1], int(state["ended_n"]))
        self._run_sums = _Sums(state["run_2V"][0], state["run_2V"][1], len(state["run_trial_K"]))
        self._run = {
            int(trial): beta_V.astype(np.float32)
            for trial, beta_V in zip(state["run_trial_K"], state["run_beta_KV"], strict=True)
        }
