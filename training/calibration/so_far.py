"""All trials of a calibration visit so far: their reliable voxels, the decoder they give, and what it is worth.

Knows nothing of folders or bundles. Letters: K trials, V voxels, N images, B betas at all stages, M null trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import top_k
from mindsight.decoders.linear.readout import Readout
from mindsight.errors import ModelMismatch
from mindsight.evaluation.calibration_record import LearningPoint
from mindsight.glm import Statistics
from mindsight.ingest.outputs import TrialBeta
from mindsight.preprocessing.quality.baseline import Baseline, baseline_of
from mindsight.retrieval import Calibration, CandidatePool, fit_stages
from training.calibration.closed_form import GrowingTrials, folds_by_image, folds_by_run
from training.calibration.heads import Head
from training.calibration.left_out import (
    N_FOLDS,
    Gain,
    Images,
    LeftOut,
    Way,
    calibrated,
    choose_way,
    one_hot,
    paired_gain,
    scores_of,
    trial_losses,
)
from training.calibration.live import ScoredRun, by_stage
from training.calibration.reliability import MIN_TRIALS, Reliability, check_betas, measure_reliability
from training.calibration.runs import statistics_of
from training.calibration.visit_runs import CalibrationRun, z_of

_SHUFFLES, _MAX_NULL = 10, 1000


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
    """The closed form in the reliable voxels, fitted in the way that does best on trials left out.

    run_K : runs that are left out together; None: images are
    """
    reliability = measure_reliability(z_KV, shown_K)
    keep_V = reliability.reliable_V
    keep_V = keep_V if keep_V.any() else np.ones_like(keep_V)
    trials = GrowingTrials(int(keep_V.sum()), images.target_NH.shape[1])
    trials.push(z_KV[:, keep_V], images.target_NH[shown_K])
    folds = folds_by_image(shown_K, N_FOLDS) if run_K is None else folds_by_run(run_K, N_FOLDS)
    left_out = choose_way(trials, head, images, shown_K, folds)
    readout = trials.fit(left_out.way.method, left_out.way.penalty)
    return Fitted(keep_V, readout, left_out.way, reliability, trials, folds, left_out)


def fit_rows(z_KV: NDArray[np.float32], shown_K: NDArray[np.intp], images: Images, way: Way) -> Reader | None:
    """A decoder of a part of the trials, fitted in a way that is given but for ridge's penalty; None of too few."""
    if len(z_KV) < MIN_TRIALS or len(np.unique(shown_K)) < 2:
        return None
    keep_V = measure_reliability(z_KV, shown_K).reliable_V
    keep_V = keep_V if keep_V.any() else np.ones_like(keep_V)
    trials = GrowingTrials(int(keep_V.sum()), images.target_NH.shape[1])
    trials.push(z_KV[:, keep_V], images.target_NH[shown_K])
    penalty = way.penalty
    if way.method == "ridge":
        penalty = trials.cross_fit("ridge", folds_by_image(np.arange(trials.n), N_FOLDS)).penalty
    return Reader(keep_V, trials.fit(way.method, penalty), way)


@dataclass(frozen=True, eq=False)
class AsItCame:
    """A run at all stages, by decoders of other folds.

    column_N : the images that its trials were ranked among
    """

    run: int
    column_N: NDArray[np.intp]
    scored: ScoredRun


@dataclass(eq=False)
class SoFar:
    """hold_out : see ``Visit``"""

    hold_out: Literal["image", "run"]
    done: list[CalibrationRun] = field(default_factory=list)
    _shown: list[Mapping[int, int]] = field(default_factory=list)
    _z: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, run: CalibrationRun, shown: Mapping[int, int], n_voxels: int) -> None:
        """The trials of another run.

        shown : index of the image that each labelled trial showed

        Raises ModelMismatch (``decoder.voxel_count``) for betas of another mask.
        """
        wrong = {len(beta.beta_V) for beta in run.betas} - {n_voxels}
        if wrong:
            raise ModelMismatch(
                f"expected betas of the {n_voxels} voxels of the visit's mask, got {sorted(wrong)} in run {run.run}:"
                " estimate them in that mask",
                code="decoder.voxel_count",
            )
        self.done.append(run)
        self._shown.append(shown)
        self._z.append(z_of(run.finals) if run.finals else np.zeros((0, n_voxels), np.float32))

    @property
    def runs(self) -> tuple[int, ...]:
        return tuple(run.run for run in self.done)

    @property
    def z_KV(self) -> NDArray[np.float32]:
        return np.concatenate(self._z)

    @property
    def shown_K(self) -> NDArray[np.intp]:
        pairs = zip(self.done, self._shown, strict=True)
        return np.array([shown[beta.trial] for run, shown in pairs for beta in run.finals], np.intp)

    @property
    def run_K(self) -> NDArray[np.intp]:
        return np.array([run.run for run in self.done for _ in run.finals], np.intp)

    def check(self) -> None:
        """Raises BadRequest, see ``check_betas``."""
        check_betas(self.z_KV, self.shown_K, repeats=True)

    def fit(self, head: Head, images: Images) -> Fitted:
        """The closed form, fitted in the way that does best on images left out."""
        return fit_trials(self.z_KV, self.shown_K, head, images, None if self.hold_out == "image" else self.run_K)

    def tested(self, earlier: Fitted, head: Head, images: Images, run: int) -> LearningPoint:
        """The decoder of earlier runs on this one, as the participant would have been decoded in it."""
        rows = self.run_K == run
        scores_KN = earlier.scores(self.z_KV[rows], head, images.pool)
        minutes = sum(each.minutes for each in self.done if each.run != run)
        accuracy = top_k(scores_KN, one_hot(self.shown_K[rows], len(images.pool)), 1)
        return LearningPoint(trials=earlier.trials.n, minutes=minutes, accuracy=accuracy, tested_on=(run,))

    def gain(self, earlier: Fitted, later: Fitted, head: Head, images: Images) -> Gain:
        """Of the later decoder, on all trials so far, each left out of both.

        The earlier one is fitted again for each fold, to its own trials but those of the fold. A fold that leaves it
        no two trials is not compared: the only run of the earlier decoder, where runs are left out.
        """
        shown_K, z_KV = self.shown_K, self.z_KV
        old_KN = np.empty_like(later.left_out.scores_KN)
        own_K, compared_K = later.fold_K[: earlier.trials.n], np.ones(len(shown_K), np.bool_)
        for fold in np.unique(later.fold_K):
            rows, known = later.fold_K == fold, np.flatnonzero(own_K != fold)
            if len(known) < 2:
                compared_K[rows] = False
                continue
            readout = earlier.readout
            if len(known) < earlier.trials.n:
                readout = earlier.trials.fit(earlier.way.method, earlier.way.penalty, known)
            without = Reader(earlier.keep_V, readout, earlier.way)
            old_KN[rows] = without.scores(z_KV[rows], head, images.pool)
        new_K = later.left_out.log_loss_K[compared_K]
        old_K = trial_losses(old_KN[compared_K], shown_K[compared_K], head) if compared_K.any() else new_K
        image_K = shown_K if self.hold_out == "image" else np.arange(len(shown_K))
        return paired_gain(list(new_K), list(old_K), image_K[compared_K])

    def calibrate(
        self, fitted: Fitted, head: Head, images: Images, ranked: CandidatePool
    ) -> tuple[Calibration, list[AsItCame]]:
        """Confidence, by stage and by the betas of the run, from trials as they came, by decoders of other folds.

        ranked : that sessions rank. If these are not the images shown, each run is ranked among as many of those.
        """
        readouts, came, rng = self._fold_readouts(fitted), list[AsItCame](), np.random.default_rng(0)
        ends = np.cumsum([len(run.finals) for run in self.done])
        for number, (run, shown) in enumerate(zip(self.done, self._shown, strict=True)):
            folds = fitted.fold_K[ends[number] - len(run.finals) : ends[number]]
            fold_of = dict(zip([beta.trial for beta in run.finals], folds.tolist(), strict=True))
            betas = [beta for beta in self._with_statistics(number) if beta.trial in fold_of]
            if not betas:
                continue
            scores_BN = _left_out_scores(betas, fold_of, readouts, fitted, head, images)
            shown_B = np.array([shown[beta.trial] for beta in betas])
            columns = np.arange(len(images.pool))
            if ranked.digest != images.pool.digest:
                columns = _among(shown_B, len(ranked), len(images.pool), rng)
            place = np.argsort(columns)[np.searchsorted(np.sort(columns), shown_B)]
            came.append(AsItCame(run.run, columns, ScoredRun(betas, scores_BN[:, columns], place)))
        null_MN = self._null(fitted, head, images)
        common = calibrated(fitted.left_out, head, self.shown_K, null_MN)
        alike = min(len(run.column_N) for run in came)
        live = by_stage([_first(run, alike) for run in came])
        return fit_stages(common, live, null_MN[:, :alike]), came

    def _fold_readouts(self, fitted: Fitted) -> dict[int, Readout]:
        way = fitted.way
        return {
            int(fold): fitted.trials.fit(way.method, way.penalty, np.flatnonzero(fitted.fold_K != fold))
            for fold in np.unique(fitted.fold_K)
        }

    def _with_statistics(self, number: int) -> list[TrialBeta]:
        """A run's betas; those that came before there were any statistics have those of the other runs."""
        others = [run.finals for i, run in enumerate(self.done) if i != number and run.finals]
        known = statistics_of(others or [self.done[number].finals])
        return [
            replace(beta, mean_V=known.mean_V, std_V=known.std_V) if beta.normalised_by == "none" else beta
            for beta in self.done[number].labelled
        ]

    def _null(self, fitted: Fitted, head: Head, images: Images) -> NDArray[np.float32]:
        """(M, N) scores of betas whose voxels were shuffled."""
        z_KV = fitted.trials.z_KV
        shuffles = max(1, min(_SHUFFLES, _MAX_NULL // len(z_KV)))
        shuffled_MV = np.random.default_rng(0).permuted(np.tile(z_KV, (shuffles, 1))[:_MAX_NULL], axis=1)
        origin_H = fitted.readout.intercept_H.astype(np.float32) if fitted.way.centred else None
        return scores_of(head, fitted.readout.predict(shuffled_MV), images.pool, origin_H)

    def statistics(self, keep_V: NDArray[np.bool_]) -> Statistics:
        whole = statistics_of([run.finals for run in self.done if run.finals])
        return Statistics(whole.mean_V[keep_V], whole.std_V[keep_V], whole.n)

    def baseline(self, keep_V: NDArray[np.bool_]) -> Baseline | None:
        signals = [run.signal_2V[:, keep_V] for run in self.done if run.signal_2V is not None]
        return baseline_of(signals) if signals else None


def _among(shown_B: NDArray[np.intp], n: int, n_images: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The images that a run showed, and others of the visit, to ``n`` in all."""
    own = np.unique(shown_B)
    others = rng.permutation(np.setdiff1d(np.arange(n_images), own))
    return np.concatenate([own, others])[: max(min(n, n_images), len(own))]


def _first(run: AsItCame, n: int) -> ScoredRun:
    """The run ranked among the first n of its images, which hold all that it showed if n is not less than these."""
    kept = run.scored.shown_K < n
    return ScoredRun(
        [beta for beta, keep in zip(run.scored.betas, kept, strict=True) if keep],
        run.scored.scores_KN[kept][:, :n],
        run.scored.shown_K[kept],
    )


def _left_out_scores(
    betas: Sequence[TrialBeta],
    fold_of: Mapping[int, int],
    readouts: Mapping[int, Readout],
    fitted: Fitted,
    head: Head,
    images: Images,
) -> NDArray[np.float32]:
    scores_BN = np.empty((len(betas), len(images.pool)), np.float32)
    fold_B, z_BV = np.array([fold_of[beta.trial] for beta in betas]), z_of(betas)[:, fitted.keep_V]
    for fold, readout in readouts.items():
        rows = fold_B == fold
        if rows.any():
            origin_H = readout.intercept_H.astype(np.float32) if fitted.way.centred else None
            scores_BN[rows] = scores_of(head, readout.predict(z_BV[rows]), images.pool, origin_H)
    return scores_BN
