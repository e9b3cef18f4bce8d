"""A decoder in closed form, in the voxels that repeats show to be reliable.

Knows nothing of runs, stages or bundles. Letters: K trials, V voxels, B betas, N images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.linear.readout import Readout
from mindsight.retrieval import CandidatePool
from training.calibration.closed_form import GrowingTrials, folds_by_image, folds_by_run
from training.calibration.heads import Head
from training.calibration.left_out import N_FOLDS, Images, LeftOut, Way, choose_way, scores_of
from training.calibration.reliability import MIN_TRIALS, Reliability, measure_reliability


@dataclass(frozen=True, eq=False)
class Reader:
    """A decoder.

    keep_V : reliable voxels, which it reads
    """

    keep_V: NDArray[np.bool_]
    readout: Readout
    way: Way

    def scores(self, z_BV: NDArray[np.float32], head: Head, pool: CandidatePool) -> NDArray[np.float32]:
        """(B, N) of betas in all voxels."""
        origin_H = self.readout.intercept_H.astype(np.float32) if self.way.centred else None
        return scores_of(head, self.readout.predict(z_BV[:, self.keep_V]), pool, origin_H)


@dataclass(frozen=True, eq=False)
class Fitted(Reader):
    """A decoder of the trials so far.

    left_out : all trials, by decoders of other images that were fitted in the same way
    """

    reliability: Reliability
    trials: GrowingTrials
    fold_K: NDArray[np.intp]
    left_out: LeftOut


def fit_trials(
    z_KV: NDArray[np.float32],
    shown_K: NDArray[np.intp],
    head: Head,
    images: Images,
    run_K: NDArray[np.intp] | None = None,
) -> Fitted:
    """The closed form, fitted in the way that does best on trials left out: in the reliable voxels, or in all if these
    decode better.

    run_K : runs that are left out together; None: images are. A run that is left out shows what the others show, and
        voxels chosen by how alike they responded in it too would know it: then all voxels are read
    """
    reliability, all_V = measure_reliability(z_KV, shown_K), np.ones(z_KV.shape[1], np.bool_)
    folds = folds_by_image(shown_K, N_FOLDS) if run_K is None else folds_by_run(run_K, N_FOLDS)
    masks = [all_V]
    if run_K is None and reliability.reliable_V.any() and not reliability.reliable_V.all():
        masks = [reliability.reliable_V, all_V]
    tried = []
    for keep_V in masks:
        trials = GrowingTrials(int(keep_V.sum()), images.target_NH.shape[1])
        trials.push(z_KV[:, keep_V], images.target_NH[shown_K])
        tried.append((choose_way(trials, head, images, shown_K, folds), keep_V, trials))
    left_out, keep_V, trials = min(tried, key=lambda each: float(each[0].log_loss_K.mean()))
    readout = trials.fit(left_out.way.method, left_out.way.penalty)
    return Fitted(keep_V, readout, left_out.way, reliability, trials, folds, left_out)


def fit_rows(
    z_KV: NDArray[np.float32], shown_K: NDArray[np.intp], images: Images, way: Way, *, everywhere: bool
) -> Reader | None:
    """A decoder of a part of the trials, fitted in a way that is given but for ridge's penalty; None of too few.

    everywhere : in all voxels, not in the reliable ones
    """
    if len(z_KV) < MIN_TRIALS or len(np.unique(shown_K)) < 2:
        return None
    keep_V = np.ones(z_KV.shape[1], np.bool_) if everywhere else measure_reliability(z_KV, shown_K).reliable_V
    keep_V = keep_V if keep_V.any() else np.ones_like(keep_V)
    trials = GrowingTrials(int(keep_V.sum()), images.target_NH.shape[1])
    trials.push(z_KV[:, keep_V], images.target_NH[shown_K])
    penalty = way.penalty
    if way.method == "ridge":
        penalty = trials.cross_fit("ridge", folds_by_image(np.arange(trials.n), N_FOLDS)).penalty
    return Reader(keep_V, trials.fit(way.method, penalty), way)
