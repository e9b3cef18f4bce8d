"""The linear decoder from trials of several runs, and what it reaches on runs that it has not seen.

Knows nothing of volumes or files. Letters: K trials, V voxels, N candidates, M shuffled trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation import Accuracy, top_k
from mindsight.retrieval import Calibration, CandidatePool, LinearDecoder, calibrate, cosine_scores

_SHUFFLES = 20


@dataclass(frozen=True, eq=False)
class RunTrials:
    """One run: (K, V) z-scored betas, and (K,) the place in the pool of what each trial showed."""

    z_KV: NDArray[np.float32]
    shown_K: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Cosines of every trial with every candidate, each by a decoder that had not seen the trial's run.

    scores_KN : (K, N), trials in the order of the runs
    right_KN : (K, N) the candidate that was shown
    null_MN : (M, N) of the same trials with their voxels shuffled
    """

    scores_KN: NDArray[np.float32]
    right_KN: NDArray[np.bool_]
    null_MN: NDArray[np.float32]

    @property
    def calibration(self) -> Calibration:
        return calibrate(self.scores_KN, self.right_KN, self.null_MN)

    @property
    def accuracy(self) -> Accuracy:
        return top_k(self.scores_KN, self.right_KN, 1)


def fit_linear(runs: Sequence[RunTrials], pool: CandidatePool) -> LinearDecoder:
    """Ridge from all trials of the runs to the embeddings of what they showed."""
    shown_K = np.concatenate([run.shown_K for run in runs])
    return LinearDecoder.fit(np.concatenate([run.z_KV for run in runs]), pool.embeddings[shown_K])


def leave_one_run_out(runs: Sequence[RunTrials], pool: CandidatePool, rng: np.random.Generator) -> HeldOut:
    """Decode each run by what the others teach. Needs two or more runs."""
    scores, null = [], []
    for run in runs:
        decoder = fit_linear([other for other in runs if other is not run], pool)
        scores.append(cosine_scores(decoder.predict(run.z_KV), pool))
        shuffled = rng.permuted(np.tile(run.z_KV, (_SHUFFLES, 1)), axis=1)
        null.append(cosine_scores(decoder.predict(shuffled), pool))
    shown_K = np.concatenate([run.shown_K for run in runs])
    right_KN = np.eye(len(pool), dtype=np.bool_)[shown_K]
    return HeldOut(np.concatenate(scores), right_KN, np.concatenate(null))
