"""Betas z-scored voxel by voxel within each session, by the session's training trials.

The held-out trials of a session are scaled by what the others tell (Scotti et al. 2024; the reference's public notebook
used all trials). Betas that were z-scored before by the same trials stay as they are. One pass over the betas gives the
statistics and finds what cannot be trained on. Letters: K trials, V voxels, B rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import z_scored
from mindsight.errors import BadRequest
from training.datasets.trials import SubjectTrials

MIN_TRIALS = 10  # of a session, in training, for a standard deviation within about a quarter
_ROWS = 256


@dataclass(frozen=True, eq=False)
class NormalisedBetas:
    """statistics : session -> mean and standard deviation (V,); none where the source has z-scored the betas."""

    trials: SubjectTrials
    statistics: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    @property
    def shape(self) -> tuple[int, int]:
        return self.trials.betas.shape

    def read(self, rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, V) z-scored."""
        raw_BV = self.trials.betas.read(rows_B)
        if self.trials.scored:
            return raw_BV
        scored_BV = np.empty_like(raw_BV)
        for i, row in enumerate(rows_B):
            mean_V, std_V = self.statistics[self.trials.sessions[row]]
            scored_BV[i] = z_scored(raw_BV[i], mean_V, std_V)
        return scored_BV


def normalised(trials: SubjectTrials, training: set[str]) -> NormalisedBetas:
    """training : images of the training part

    Raises BadRequest: ``dataset.trials`` for a session with too few training trials, ``dataset.not_finite`` for voxels
    with NaN or infinity, ``dataset.constant`` for voxels that do not vary in a session, ``dataset.scale`` for betas
    that a source says are z-scored and are not.
    """
    in_training_K = np.zeros(len(trials), np.bool_)
    in_training_K[trials.rows_of(training)] = True
    session_K = np.array(trials.sessions)
    statistics, bad_V, constant_V = {}, np.zeros(trials.voxels, np.bool_), np.zeros(trials.voxels, np.bool_)
    for session in dict.fromkeys(trials.sessions):
        rows = np.flatnonzero(session_K == session)
        n = int(in_training_K[rows].sum())
        if n < MIN_TRIALS and trials.scored:
            continue  # tests of sessions that are not trained on
        if n < MIN_TRIALS:
            raise BadRequest(
                f"expected {MIN_TRIALS} training trials or more in each session, to z-score it by, got {n} in session"
                f" {session} of subject {trials.subject}: leave the session out, or hold out fewer images",
                code="dataset.trials",
            )
        mean_V, std_V, bad = _moments(trials, rows, in_training_K)
        bad_V |= bad
        constant_V |= ~bad & (std_V <= 1e-6 * np.abs(mean_V) + 1e-12)
        statistics[session] = (mean_V.astype(np.float32), std_V.astype(np.float32))
    _require_usable(trials, bad_V, constant_V)
    if trials.scored:
        _require_scored(trials, statistics)
    return NormalisedBetas(trials, statistics)


def _moments(
    trials: SubjectTrials, rows: NDArray[np.int64], in_training_K: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Mean and standard deviation over the training trials, and which voxels are not finite in any trial."""
    n, mean_V, square_V = 0, np.zeros(trials.voxels), np.zeros(trials.voxels)
    bad_V = np.zeros(trials.voxels, np.bool_)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        betas_BV = trials.betas.read(part).astype(np.float64)
        bad_V |= ~np.isfinite(betas_BV).all(axis=0)
        known_BV = betas_BV[in_training_K[part]]
        if not len(known_BV):
            continue
        # Chan et al. 1983: parts are joined without the cancellation of sums of squares
        with np.errstate(invalid="ignore"):  # of infinity, which is refused afterwards
            own_V, m = known_BV.mean(axis=0), len(known_BV)
            apart_V = own_V - mean_V
            square_V += ((known_BV - own_V) ** 2).sum(axis=0) + apart_V**2 * n * m / (n + m)
            mean_V += apart_V * m / (n + m)
        n += m
    return mean_V, np.sqrt(square_V / n), bad_V


def _require_scored(
    trials: SubjectTrials, statistics: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    for session, (mean_V, std_V) in statistics.items():
        mean, std = float(np.median(np.abs(mean_V))), float(np.median(std_V))
        if mean > 0.5 or not 0.5 < std < 2.0:
            raise BadRequest(
                f"expected betas that were z-scored by session, got session {session} of subject {trials.subject} with"
                f" means of {mean:.2g} and standard deviations of {std:.2g}: use the file that ends in _renorm",
                code="dataset.scale",
            )


def _require_usable(trials: SubjectTrials, bad_V: NDArray[np.bool_], constant_V: NDArray[np.bool_]) -> None:
    remedy = "make the mask without these voxels, for all sessions of the subject"
    if bad_V.any():
        raise BadRequest(
            f"expected finite betas, got NaN or infinity in {int(bad_V.sum())} of {trials.voxels} voxels of subject"
            f" {trials.subject}, the first in place {int(bad_V.argmax())} of the mask: {remedy}",
            code="dataset.not_finite",
        )
    if constant_V.any():
        raise BadRequest(
            f"expected betas that vary over the trials of each session, got {int(constant_V.sum())} constant voxels of"
            f" {trials.voxels} in subject {trials.subject}, the first in place {int(constant_V.argmax())} of the mask:"
            f" {remedy}",
            code="dataset.constant",
        )
