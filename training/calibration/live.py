"""Held-out runs as a session decodes them while they come: what the confidence of each stage is fitted to.

Knows nothing of decoders: it is given scores. Letters: K betas, V voxels, N candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import z_scored
from mindsight.ingest.outputs import TrialBeta
from mindsight.retrieval import StageTrials
from mindsight.stages import STAGES, Stage
from training.calibration.runs import IngestedRun, LabelledRun, final_betas, statistics_of

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(K, V) z-scored betas -> (K, N)."""


@dataclass(frozen=True, eq=False)
class LeftOutScores:
    """The candidates of one run by label, and scores of its betas by a decoder that was not fitted to it."""

    index_of: Mapping[str, int]
    scores: Scores


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """Labelled betas of one held-out run at all stages, and the index of the candidate that each trial showed."""

    betas: Sequence[TrialBeta]
    scores_KN: NDArray[np.float32]
    shown_K: NDArray[np.intp]


def score_left_out(
    runs: Sequence[LabelledRun],
    ingested: Sequence[IngestedRun],
    left_out: Sequence[LeftOutScores],
) -> list[ScoredRun]:
    """Every run with the statistics that its session had for each beta as it came. A beta that came before there were
    any has those of the other runs, as a session with a bundle has the bundle's.

    ingested : by one session without a bundle
    """
    finals = [final_betas(run, one) for run, one in zip(runs, ingested, strict=True)]
    scored = []
    for i, (run, one) in enumerate(zip(runs, ingested, strict=True)):
        known = statistics_of(finals[:i] + finals[i + 1 :])
        betas = [
            replace(beta, mean_V=known.mean_V, std_V=known.std_V) if beta.normalised_by == "none" else beta
            for beta in one.betas
        ]
        labelled = [beta for beta in betas if beta.trial in run.trials.labels]
        z_KV = np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in labelled])
        shown_K = np.array([left_out[i].index_of[run.trials.labels[beta.trial]] for beta in labelled])
        scored.append(ScoredRun(labelled, left_out[i].scores(z_KV), shown_K))
    return scored


def by_stage(runs: Sequence[ScoredRun]) -> Mapping[Stage, StageTrials]:
    """The trials of all runs at each stage that they have."""
    stages: dict[Stage, StageTrials] = {}
    stage_K = np.array([beta.stage for run in runs for beta in run.betas])
    n_run_K = np.array([beta.n_run for run in runs for beta in run.betas])
    trial_K = np.array([beta.trial for run in runs for beta in run.betas])
    scores_KN = np.concatenate([run.scores_KN for run in runs])
    right_KN = np.concatenate([run.shown_K for run in runs])[:, None] == np.arange(scores_KN.shape[1])
    for stage in STAGES:
        rows = stage_K == stage
        if rows.any():
            stages[stage] = StageTrials(scores_KN[rows], right_KN[rows], n_run_K[rows], trial_K[rows])
    return stages
