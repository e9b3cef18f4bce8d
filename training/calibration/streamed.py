"""A linear bundle from betas that a session has already estimated: of the runs so far, while others are being scanned.

Knows nothing of volumes, logs or files: it is given betas as they came, with the statistics that the session had for
each. Letters: K trials, V voxels, N candidates.

Every decoder is tested on trials that it was not fitted to. With two or more runs each run is left out once; with one,
each quarter of it, in the order of the trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import z_scored
from mindsight.ingest import IngestOptions
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.retrieval import CandidatePool, fit_stages
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.linear_choice import HeldOut, RunTrials, choose_linear, fit_linear, scores_of
from training.calibration.live import ScoredRun, by_stage
from training.calibration.runs import statistics_of

PARTS = 4  # of a single run

Key = tuple[int, int]
"""Run and trial."""


@dataclass(frozen=True, eq=False)
class StreamedRun:
    """One run that has ended.

    betas : of all trials at all stages, in the order in which they came
    labels : trial -> what it showed: the id of a candidate, or a label
    """

    run: int
    betas: Sequence[TrialBeta]
    labels: Mapping[int, str]

    @property
    def finals(self) -> list[TrialBeta]:
        """Of the labelled trials."""
        return [beta for beta in self.betas if beta.stage == "final" and beta.trial in self.labels]


@dataclass(frozen=True, eq=False)
class Streamed:
    """A bundle that is not saved yet.

    losses : of each held-out trial, the negative log probability of what it showed
    """

    bundle: Bundle
    losses: Mapping[Key, float]

    @property
    def n_trials(self) -> int:
        return self.bundle.statistics.n


@dataclass(frozen=True, eq=False)
class _Part:
    """Trials that are left out together."""

    finals: Sequence[TrialBeta]
    trials: RunTrials

    @property
    def keys(self) -> list[Key]:
        return [(beta.run, beta.trial) for beta in self.finals]


def calibrate_streamed(
    runs: Sequence[StreamedRun],
    space: SubjectSpace,
    options: IngestOptions,
    subject: str,
    created: datetime,
    pool: CandidatePool | None = None,
    baseline: Baseline | None = None,
) -> Streamed:
    """The bundle of these runs.

    space, options : of the session that estimated the betas
    pool : None: the labels so far are the candidates

    Raises ModelMismatch (``decoder.fit``, ``pool.unknown_candidate``).
    """
    names = tuple(sorted({label for run in runs for label in run.labels.values()}))
    labels = "trial_type" if pool is None else "stim_file"
    pool = pool or CandidatePool(names, np.eye(len(names), dtype=np.float32), names)
    index_of = {name: pool.index_of(pool.named(name)) for name in names}
    parts = _parts(runs, index_of)
    held_out = choose_linear([part.trials for part in parts], pool, np.random.default_rng(0))
    scored = _scored(runs, parts, held_out, pool, index_of)
    bundle = Bundle(
        subject=subject,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        options=options,
        space=space,
        statistics=statistics_of([run.finals for run in runs]),
        calibration=fit_stages(held_out.calibration, by_stage(scored), held_out.null_MN),
        pool=pool,
        decoder=fit_linear([part.trials for part in parts], pool, held_out.method),
        baseline=baseline,
        labels=labels,
        accuracy=held_out.accuracy,
    )
    keys = [key for part in parts for key in part.keys]
    return Streamed(bundle, dict(zip(keys, held_out.log_loss_K.tolist(), strict=True)))


def is_worse(losses: Mapping[Key, float], before: Mapping[Key, float]) -> bool | None:
    """Whether a decoder has more log loss than one before it, on the same held-out trials, by more than one standard
    error of the mean difference. None without two trials in common.
    """
    common = sorted(set(losses) & set(before))
    if len(common) < 2:
        return None
    more_K = np.array([losses[key] - before[key] for key in common])
    return bool(more_K.mean() > more_K.std(ddof=1) / np.sqrt(len(more_K)))


def _parts(runs: Sequence[StreamedRun], index_of: Mapping[str, int]) -> list[_Part]:
    groups = [run.finals for run in runs if run.finals]
    if len(groups) == 1:
        places = np.array_split(np.arange(len(groups[0])), min(PARTS, len(groups[0])))
        groups = [[groups[0][int(i)] for i in part] for part in places]
    labels = {(run.run, trial): label for run in runs for trial, label in run.labels.items()}
    return [
        _Part(
            finals,
            RunTrials(
                np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in finals]),
                np.array([index_of[labels[beta.run, beta.trial]] for beta in finals]),
            ),
        )
        for finals in groups
    ]


def _scored(
    runs: Sequence[StreamedRun],
    parts: Sequence[_Part],
    held_out: HeldOut,
    pool: CandidatePool,
    index_of: Mapping[str, int],
) -> list[ScoredRun]:
    """The betas of each part at all stages, with their own statistics, by a decoder of the other parts."""
    scored = []
    labels = {(run.run, trial): label for run in runs for trial, label in run.labels.items()}
    for i, part in enumerate(parts):
        others = [other for j, other in enumerate(parts) if j != i]
        decoder = fit_linear([other.trials for other in others], pool, held_out.method)
        known = statistics_of([other.finals for other in others])
        score = partial(scores_of, decoder, pool=pool, score=held_out.score, centred=held_out.centred)
        mine = set(part.keys)
        betas = [
            replace(beta, mean_V=known.mean_V, std_V=known.std_V) if beta.normalised_by == "none" else beta
            for run in runs
            for beta in run.betas
            if (beta.run, beta.trial) in mine
        ]
        z_KV: NDArray[np.float32] = np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in betas])
        shown_K = np.array([index_of[labels[beta.run, beta.trial]] for beta in betas])
        scored.append(ScoredRun(betas, score(z_KV), shown_K))
    return scored
