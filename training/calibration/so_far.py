"""All trials of a calibration visit so far: their reliable voxels, the decoder they give, and what it is worth.

Knows nothing of folders or bundles. Letters: K trials, V voxels, N images, B betas at all stages, M null trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import top_k
from mindsight.errors import ModelMismatch
from mindsight.evaluation.calibration_record import LearningPoint
from mindsight.glm import Statistics
from mindsight.ingest.outputs import TrialBeta
from mindsight.preprocessing.quality.baseline import Baseline, baseline_of
from mindsight.retrieval import Calibration, CandidatePool, fit_stages
from training.calibration.fitted import Fitted, Reader, fit_trials
from training.calibration.heads import Head
from training.calibration.left_out import (
    Gain,
    Images,
    LeftOut,
    calibrated,
    one_hot,
    paired_gain,
    trial_losses,
)
from training.calibration.live import ScoredRun, by_stage
from training.calibration.reliability import check_betas
from training.calibration.runs import statistics_of
from training.calibration.visit_runs import CalibrationRun, z_of

_SHUFFLES, _MAX_NULL = 10, 1000


Scorer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(B, V) z-scored betas in all voxels -> (B, N) scores with the images."""


@dataclass(frozen=True, eq=False)
class Claims:
    """What is claimed of a decoder: by trials that were left out of it.

    left_out, shown_K : final betas of these trials
    fold_K : (K,) of every trial of the visit; -1 of trials that are not left out
    scorers : of each fold, a decoder that was not fitted to it
    null_MN : scores of shuffled betas
    held_out : in words, how trials were left out; empty: by folds
    """

    left_out: LeftOut
    shown_K: NDArray[np.intp]
    fold_K: NDArray[np.intp]
    scorers: Mapping[int, Scorer]
    null_MN: NDArray[np.float32]
    held_out: str = ""


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
        old_K = trial_losses(old_KN[compared_K], shown_K[compared_K]) if compared_K.any() else new_K
        image_K = shown_K if self.hold_out == "image" else np.arange(len(shown_K))
        return paired_gain(list(new_K), list(old_K), image_K[compared_K])

    def claims(self, fitted: Fitted, head: Head, images: Images) -> Claims:
        """Of a closed form: every trial is left out once."""
        way, trials, keep_V = fitted.way, fitted.trials, fitted.keep_V
        readers = {
            int(fold): Reader(keep_V, trials.fit(way.method, way.penalty, np.flatnonzero(fitted.fold_K != fold)), way)
            for fold in np.unique(fitted.fold_K)
        }
        scorers = {fold: partial(reader.scores, head=head, pool=images.pool) for fold, reader in readers.items()}
        null_MN = fitted.scores(self.shuffled_MV(keep_V), head, images.pool)
        return Claims(fitted.left_out, self.shown_K, fitted.fold_K, scorers, null_MN)

    def calibrate(
        self, claims: Claims, head: Head, images: Images, ranked: CandidatePool
    ) -> tuple[Calibration, list[AsItCame]]:
        """Confidence, by stage and by the betas of the run, from left-out trials as they came.

        ranked : that sessions rank. If these are not the images shown, each run is ranked among as many of those.
        """
        came, rng = list[AsItCame](), np.random.default_rng(0)
        ends = np.cumsum([len(run.finals) for run in self.done])
        for number, (run, shown) in enumerate(zip(self.done, self._shown, strict=True)):
            folds = claims.fold_K[ends[number] - len(run.finals) : ends[number]]
            fold_of = dict(zip([beta.trial for beta in run.finals], folds.tolist(), strict=True))
            betas = [beta for beta in self._with_statistics(number) if fold_of.get(beta.trial, -1) in claims.scorers]
            if not betas:
                continue
            scores_BN = np.empty((len(betas), len(images.pool)), np.float32)
            fold_B, z_BV = np.array([fold_of[beta.trial] for beta in betas]), z_of(betas)
            for fold in np.unique(fold_B):
                scores_BN[fold_B == fold] = claims.scorers[int(fold)](z_BV[fold_B == fold])
            shown_B = np.array([shown[beta.trial] for beta in betas])
            columns = np.arange(len(images.pool))
            if ranked.digest != images.pool.digest:
                columns = _among(shown_B, len(ranked), len(images.pool), rng)
            place = np.argsort(columns)[np.searchsorted(np.sort(columns), shown_B)]
            came.append(AsItCame(run.run, columns, ScoredRun(betas, scores_BN[:, columns], place)))
        common = calibrated(claims.left_out, head, claims.shown_K, claims.null_MN)
        alike = min(len(run.column_N) for run in came)
        live = by_stage([_first(run, alike) for run in came])
        return fit_stages(common, live, claims.null_MN[:, :alike]), came

    def shuffled_MV(self, keep_V: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(M, V) betas whose kept voxels were shuffled."""
        z_KV = self.z_KV
        shuffled_MV = np.tile(z_KV, (max(1, min(_SHUFFLES, _MAX_NULL // len(z_KV))), 1))[:_MAX_NULL]
        shuffled_MV[:, keep_V] = np.random.default_rng(0).permuted(shuffled_MV[:, keep_V], axis=1)
        return shuffled_MV

    def _with_statistics(self, number: int) -> list[TrialBeta]:
        """A run's betas; those that came before there were any statistics have those of the other runs."""
        others = [run.finals for i, run in enumerate(self.done) if i != number and run.finals]
        known = statistics_of(others or [self.done[number].finals])
        return [
            replace(beta, mean_V=known.mean_V, std_V=known.std_V) if beta.normalised_by == "none" else beta
            for beta in self.done[number].labelled
        ]

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
