"""What was shown more than once: the average of its trials' betas, revised when a beta is.

Knows nothing of pictures, decoders or the order of answers: betas are handed in under a name. V voxels, K trials.

Averages over repeats raise the signal like the square root of their number as long as noise is independent between
trials. Betas of several runs belong on one scale: hand in z-scored ones.

A run's betas are kept while they may still be revised, each trial with its newest; those of ended runs are kept as
sums, one per item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Average:
    """(V,) float32 mean of an item's betas, and of how many trials."""

    beta_V: NDArray[np.float32]
    n: int


class Repeats:
    """The betas of a session so far, by what was shown."""

    def __init__(self, n_voxels: int) -> None:
        self._n_voxels = n_voxels
        self._run: dict[int, tuple[str, NDArray[np.float32]]] = {}
        self._ended: dict[str, tuple[NDArray[np.float64], int]] = {}

    def put(self, item: str, trial: int, beta_V: NDArray[np.float32]) -> Average:
        """The newest beta of a trial of the present run, which showed ``item``; the item's average with it."""
        self._run[trial] = (item, beta_V)
        return self.average(item)

    def average(self, item: str) -> Average:
        """Over all trials that showed it; zeros, of none, for one that was not shown yet."""
        sum_V, n = self._ended.get(item, (np.zeros(self._n_voxels), 0))
        # Summed anew, in the order of the trials: no trace is left of a beta that was revised.
        for trial in sorted(self._run):
            shown, beta_V = self._run[trial]
            if shown == item:
                sum_V, n = sum_V + beta_V, n + 1
        return Average((sum_V / max(n, 1)).astype(np.float32), n)

    def end_run(self) -> None:
        """The present run's betas are final; the next ``put`` belongs to another run."""
        for trial in sorted(self._run):
            item, beta_V = self._run[trial]
            sum_V, n = self._ended.get(item, (np.zeros(self._n_voxels), 0))
            self._ended[item] = (sum_V + beta_V, n + 1)
        self._run = {}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays, and the rest as JSON has it; ``load_state`` goes on to the same bits."""
        arrays: dict[str, NDArray[Any]] = {
            "ended_NV": np.array([sum_V for sum_V, _ in self._ended.values()]).reshape(-1, self._n_voxels),
            "run_KV": np.array([beta_V for _, beta_V in self._run.values()], np.float32).reshape(-1, self._n_voxels),
        }
        meta = {
            "ended": [[item, n] for item, (_, n) in self._ended.items()],
            "run": [[trial, item] for trial, (item, _) in self._run.items()],
        }
        return arrays, meta

    def load_state(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self._ended = {
            item: (sum_V.astype(np.float64), n)
            for (item, n), sum_V in zip(meta["ended"], arrays["ended_NV"], strict=True)
        }
        self._run = {
            trial: (item, beta_V.astype(np.float32))
            for (trial, item), beta_V in zip(meta["run"], arrays["run_KV"], strict=True)
        }
