"""The record of a calibration visit: every left-out trial, the learning curve, the control.

Knows nothing of how decoders are fitted beyond asking for one. Letters: K trials, N images, B betas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy, top_k
from mindsight.evaluation.calibration_record import (
    CalibrationRecord,
    Control,
    LearningPoint,
    LeftOutTrial,
    ranks_both_ways,
)
from mindsight.evaluation.noise_ceiling import noise_ceiling
from mindsight.retrieval import Calibration, CandidatePool
from training.calibration.fitted import Fitted, Reader, fit_rows
from training.calibration.heads import Head
from training.calibration.left_out import Images, one_hot, shuffled_control
from training.calibration.ranked import Ranked
from training.calibration.so_far import AsItCame, SoFar

_MAX_POINTS = 6


def record_of(
    subject: str,
    created: str,
    so_far: SoFar,
    found: Ranked,
    calibration: Calibration,
    came: Sequence[AsItCame],
) -> CalibrationRecord:
    """What was measured of this decoder."""
    rng, fitted, head, images = np.random.default_rng(0), found.fitted, found.kind.head, found.kind.images
    shuffled = shuffled_control(fitted.trials, head, images, so_far.shown_K, fitted.fold_K, fitted.way, rng)
    # of all voxels: the chosen ones repeat by choice
    ceiling = noise_ceiling(so_far.z_KV, so_far.shown_K, so_far.run_K)
    by = "image, all its repeats together" if so_far.hold_out == "image" else "run"
    return CalibrationRecord(
        subject=subject,
        created=created,
        decoder=found.how,
        held_out=f"{len(np.unique(fitted.fold_K))} folds, by {by}; the confidence is of the same left-out trials",
        pool_size=min(len(run.column_N) for run in came),
        voxels=int(found.keep_V.sum()),
        minutes=sum(run.minutes for run in so_far.done),
        trials=tuple(trial for run in came for trial in _trials(run, calibration, images.pool)),
        curve=learning_curve(so_far, fitted, head, images),
        ceiling=None if ceiling is None else ceiling[0],
        controls=(Control(what="images shuffled before the fit", accuracy=shuffled),),
        runs=tuple(run.quality for run in so_far.done if run.quality is not None),
        registrations=tuple(run.registration for run in so_far.done if run.registration is not None),
        reliability_V=fitted.reliability.correlation_V[found.keep_V] if fitted.reliability.n_pairs else None,
    )


def _trials(run: AsItCame, calibration: Calibration, pool: CandidatePool) -> Iterator[LeftOutTrial]:
    scored, stage_B = run.scored, np.array([beta.stage for beta in run.scored.betas])
    for stage in dict.fromkeys(beta.stage for beta in scored.betas):
        rows = np.flatnonzero(stage_B == stage)
        scores_KN, shown_K = scored.scores_KN[rows], scored.shown_K[rows]
        for k, (image_rank, brain_rank, n_brains) in enumerate(zip(*ranks_both_ways(scores_KN, shown_K), strict=True)):
            beta, first = scored.betas[int(rows[k])], int(np.argmax(scores_KN[k]))
            at = calibration.at(stage, beta.n_run, beta.trial)
            yield LeftOutTrial(
                run=beta.run,
                trial=beta.trial,
                stage=stage,
                image=pool.ids[int(run.column_N[shown_K[k]])],
                first=pool.ids[int(run.column_N[first])],
                image_rank=int(image_rank),
                n_images=scores_KN.shape[1],
                brain_rank=int(brain_rank),
                n_brains=int(n_brains),
                confidence=float(at.probabilities(scores_KN[k])[first]),
                n_run=beta.n_run,
            )


def learning_curve(so_far: SoFar, fitted: Fitted, head: Head, images: Images) -> tuple[LearningPoint, ...]:
    """Decoders of the first runs, more and more of them, all tested on the last quarter of the runs.

    With images held out, a decoder is fitted to no image that the last runs show.
    """
    runs = [run for run in so_far.done if run.finals]
    n_tested = max(1, len(runs) // 4)
    tested, known = runs[-n_tested:], runs[:-n_tested]
    if not known:
        return ()
    run_K, shown_K, z_KV = so_far.run_K, so_far.shown_K, so_far.z_KV
    test = np.isin(run_K, [run.run for run in tested])
    usable = ~test
    if so_far.hold_out == "image":
        usable &= ~np.isin(shown_K, shown_K[test])
    points = []
    for n in np.unique(np.geomspace(1, len(known), min(_MAX_POINTS, len(known))).round().astype(int)):
        rows = np.flatnonzero(usable & np.isin(run_K, [run.run for run in known[:n]]))
        small = fit_rows(z_KV[rows], shown_K[rows], images, fitted.way, everywhere=bool(fitted.keep_V.all()))
        accuracy = None if small is None else _accuracy(small, test, z_KV, shown_K, head, images)
        if accuracy is not None:
            minutes = sum(run.minutes for run in known[:n])
            numbers = tuple(run.run for run in tested)
            points.append(LearningPoint(trials=len(rows), minutes=minutes, accuracy=accuracy, tested_on=numbers))
    return tuple(points)


def _accuracy(
    reader: Reader,
    test_K: NDArray[np.bool_],
    z_KV: NDArray[np.float32],
    shown_K: NDArray[np.intp],
    head: Head,
    images: Images,
) -> Accuracy:
    scores_KN = reader.scores(z_KV[test_K], head, images.pool)
    return top_k(scores_KN, one_hot(shown_K[test_K], len(images.pool)), 1)
