"""What the linear decoder gains with trials, and what it finds in shuffled labels: each run decoded by others.

Knows nothing of volumes or files. Letters: K trials, V voxels, N candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.evaluation.calibration_record import Control, LearningPoint
from mindsight.retrieval import CandidatePool
from training.calibration.linear_choice import HeldOut, RunTrials, fit_linear, scores_of

_SHARES = (0.125, 0.25, 0.5, 1.0)
_MIN_TRIALS = 4
_MAX_SHUFFLES, _SHUFFLED_TRIALS = 5, 600


def learning_curve(
    runs: Sequence[RunTrials], minutes: Sequence[float], pool: CandidatePool, way: HeldOut
) -> tuple[LearningPoint, ...]:
    """Each run decoded by an eighth, a quarter, half and all trials of the other runs: the first of them, from the run
    after it on, so that every trial is in as many fits as any other.

    minutes : of each run
    way : how decoders are fitted and candidates scored
    """
    points: dict[int, LearningPoint] = {}
    others = [[*runs[i + 1 :], *runs[:i]] for i in range(len(runs))]
    n_others = [sum(len(run.shown_K) for run in several) for several in others]
    for share in _SHARES:
        fits = [_first(several, round(share * n)) for several, n in zip(others, n_others, strict=True)]
        if any(len(fit.shown_K) < _MIN_TRIALS or len(np.unique(fit.shown_K)) < 2 for fit in fits):
            continue
        hits = [_hits(fit, run, pool, way) for fit, run in zip(fits, runs, strict=True)]
        n_trials = round(float(np.mean([len(fit.shown_K) for fit in fits])))
        n_tested = sum(len(run.shown_K) for run in runs)
        scanned = share * sum(minutes) * (len(runs) - 1) / len(runs)
        accuracy = Accuracy(sum(hits), n_tested, 1.0 / len(pool))
        points[n_trials] = LearningPoint(
            trials=n_trials, minutes=scanned, accuracy=accuracy, tested_on=tuple(range(1, len(runs) + 1))
        )
    return tuple(points[n] for n in sorted(points))


def shuffled_control(runs: Sequence[RunTrials], pool: CandidatePool, way: HeldOut, seed: int = 0) -> Control:
    """Each run decoded by the others, whose labels are shuffled within their runs; the mean of up to five shuffles.

    Hits are counted as of one shuffle: trials that showed one image are right or wrong together, so that more shuffles
    do not make more independent trials.
    """
    rng = np.random.default_rng(seed)
    n_trials = sum(len(run.shown_K) for run in runs)
    shuffles = max(1, min(_MAX_SHUFFLES, _SHUFFLED_TRIALS // n_trials))
    hits = 0
    for _ in range(shuffles):
        mixed = [RunTrials(run.z_KV, rng.permutation(run.shown_K)) for run in runs]
        for i, run in enumerate(runs):
            hits += _hits(_joined([*mixed[:i], *mixed[i + 1 :]]), run, pool, way)
    what = "labels shuffled within runs before the fit" + (f", mean of {shuffles}" if shuffles > 1 else "")
    return Control(what=what, accuracy=Accuracy(round(hits / shuffles), n_trials, 1.0 / len(pool)))


def _joined(runs: Sequence[RunTrials]) -> RunTrials:
    return RunTrials(np.concatenate([run.z_KV for run in runs]), np.concatenate([run.shown_K for run in runs]))


def _first(runs: Sequence[RunTrials], n: int) -> RunTrials:
    """The first n trials."""
    before = itertools.accumulate((len(run.shown_K) for run in runs), initial=0)
    needed = [run for run, start in zip(runs, before, strict=False) if start < max(n, 1)]
    joined = _joined(needed)
    return RunTrials(joined.z_KV[:n], joined.shown_K[:n])


def _hits(fit: RunTrials, run: RunTrials, pool: CandidatePool, way: HeldOut) -> int:
    scores_KN = scores_of(fit_linear([fit], pool, way.method), run.z_KV, pool, way.score, way.centred)
    return int((scores_KN.argmax(axis=1) == run.shown_K).sum())
