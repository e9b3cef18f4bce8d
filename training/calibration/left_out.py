"""Trials decoded by a ridge layer that was fitted to other images: what a calibration chooses and claims by.

Knows nothing of runs on their way through ingest or of bundles. Letters: K trials, V voxels, N images, H numbers of a
target, M null trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy, top_k
from mindsight.retrieval import Calibration, CandidatePool, cosine_scores, fit_temperature
from mindsight.retrieval.confidence import log_losses
from training.calibration.closed_form import DIAGONALS, SHARES, GrowingTrials, Method
from training.calibration.heads import Head

N_FOLDS = 5
_LOG_TEMPERATURES = (-7.0, 5.0)  # of a typical highest score
# voxels: an inverted encoding model weighs voxels by their errors, which takes a pass for each fold
_MAX_INVERTED = 20_000
_MAX_STRUCTURED = 2_000_000  # numbers in the betas: one with structured errors takes forty passes for each fold


@dataclass(frozen=True, eq=False)
class Images:
    """What was shown, with the targets of the ridge layer.

    pool : N candidates that trials are ranked among
    target_NH : see ``Head.targets``
    """

    pool: CandidatePool
    target_NH: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Way:
    """How a decoder is fitted and scored. penalty : see ``CrossFit``"""

    method: Method
    centred: bool
    penalty: float

    @property
    def ridge_penalty(self) -> float:
        """NaN for an inverted encoding model."""
        return self.penalty if self.method == "ridge" else float("nan")

    def __str__(self) -> str:
        if self.method == "ridge":
            fitted = f"ridge, penalty {self.penalty:.3g}"
        elif self.method == "inversion":
            fitted = f"an encoding model, inverted, errors with {self.penalty:.0%} of their diagonal"
        else:
            fitted = f"an encoding model with structured errors, inverted, {self.penalty:.0%} of the latents' variance"
        return fitted + (", centred" if self.centred else "")


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Scores of all trials by decoders that were fitted in this way to other images, and the log loss of each trial."""

    way: Way
    scores_KN: NDArray[np.float32]
    log_loss_K: NDArray[np.float64]

    def accuracy(self, shown_K: NDArray[np.intp]) -> Accuracy:
        """Top 1 among the N."""
        return top_k(self.scores_KN, one_hot(shown_K, self.scores_KN.shape[1]), 1)


def one_hot(shown_K: NDArray[np.intp], n: int) -> NDArray[np.bool_]:
    """(K, N) the image that each trial showed."""
    return np.asarray(shown_K[:, None] == np.arange(n))


def scores_of(
    head: Head,
    predicted_KH: NDArray[np.float32],
    pool: CandidatePool,
    origin_H: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(K, N) as the head's decoder scores them in a session.

    origin_H : the prediction for an average beta, if scores are centred on it
    """
    features_KX = head.features(predicted_KH)
    scores_KN = cosine_scores(features_KX, pool, origin_H)
    if head.score == "cosine":
        return scores_KN
    from_origin_KX = features_KX if origin_H is None else features_KX - origin_H
    return np.asarray(scores_KN * np.linalg.norm(from_origin_KX, axis=1)[:, None], np.float32)


def choose_way(
    trials: GrowingTrials, head: Head, images: Images, shown_K: NDArray[np.intp], fold_K: NDArray[np.intp]
) -> LeftOut:
    """The way with the least log loss on images left out; ridge, not centred, unless another has less by more than one
    standard error over the trials.
    """
    ways: list[tuple[Method, float]] = [("ridge", DIAGONALS[0])]
    if trials.z_KV.shape[1] <= _MAX_INVERTED:
        ways += [("inversion", diagonal) for diagonal in DIAGONALS]
    if trials.z_KV.size <= _MAX_STRUCTURED:
        ways += [(head.structured, share) for share in SHARES]
    tried = [left_out for way in ways for left_out in left_out_scores(trials, head, images, shown_K, fold_K, *way)]
    usual, best = tried[0], min(tried, key=lambda each: float(each.log_loss_K.mean()))
    return best if is_better(best, usual) else usual


def is_better(other: LeftOut, usual: LeftOut) -> bool:
    """Whether it has less log loss on the same trials, by more than one standard error over them."""
    gain_K = usual.log_loss_K - other.log_loss_K
    return bool(gain_K.mean() > gain_K.std() / np.sqrt(len(gain_K)))


def left_out_scores(
    trials: GrowingTrials,
    head: Head,
    images: Images,
    shown_K: NDArray[np.intp],
    fold_K: NDArray[np.intp],
    method: Method,
    part: float,
) -> list[LeftOut]:
    """One for each choice of centring that the head may take."""
    fit, n = trials.cross_fit(method, fold_K, part), len(images.pool)
    found = []
    for centred in head.centred:
        scores_KN = np.empty((trials.n, n), np.float32)
        for fold in np.unique(fold_K):
            rows = fold_K == fold
            origin_H = trials.target_KH[~rows].mean(axis=0) if centred else None
            scores_KN[rows] = scores_of(head, fit.predicted_KH[rows], images.pool, origin_H)
        found.append(LeftOut(Way(method, centred, fit.penalty), scores_KN, trial_losses(scores_KN, shown_K)))
    return found


def trial_losses(scores_KN: NDArray[np.float32], shown_K: NDArray[np.intp]) -> NDArray[np.float64]:
    """(K,) negative log probability of what each trial showed, at the temperature that fits these trials best.

    The mean loss is convex in the inverse temperature, so that a line search finds it.
    """
    from scipy.optimize import minimize_scalar

    right_KN = one_hot(shown_K, scores_KN.shape[1])
    unit = float(np.median(np.abs(scores_KN).max(axis=1))) or 1.0

    def losses(log_temperature: float) -> NDArray[np.float64]:
        return log_losses(scores_KN, right_KN, unit * float(np.exp(log_temperature)))

    found = minimize_scalar(lambda at: losses(at).mean(), bounds=_LOG_TEMPERATURES, method="bounded")
    return losses(float(found.x))


def shuffled_control(
    trials: GrowingTrials,
    head: Head,
    images: Images,
    shown_K: NDArray[np.intp],
    fold_K: NDArray[np.intp],
    way: Way,
    rng: np.random.Generator,
) -> Accuracy:
    """Accuracy when betas are fitted to another trial's image: trials of one image get the same other one."""
    shown, index_K = np.unique(shown_K, return_inverse=True)
    order = rng.permutation(len(shown))
    other = np.empty_like(shown)
    other[order] = shown[np.roll(order, 1)]  # no image stays with its own trials
    other_K = other[index_K]
    mixed = GrowingTrials(trials.z_KV.shape[1], trials.target_KH.shape[1])
    mixed.push(trials.z_KV, images.target_NH[other_K])
    found = left_out_scores(mixed, head, images, shown_K, fold_K, way.method, way.penalty)
    return next(each for each in found if each.way.centred == way.centred).accuracy(shown_K)


def paired_gain(new_K: Sequence[float], old_K: Sequence[float], image_K: NDArray[np.intp]) -> Gain:
    """How much less one decoder's log loss is than another's on the same left-out trials."""
    difference_K = np.asarray(old_K) - np.asarray(new_K)
    images, index_K = np.unique(image_K, return_inverse=True)
    of_image = np.bincount(index_K, difference_K) / np.bincount(index_K)
    error = float(of_image.std(ddof=1) / np.sqrt(len(images))) if len(images) > 1 else float("inf")
    return Gain(float(of_image.mean()), error, len(images), len(difference_K))


@dataclass(frozen=True, slots=True)
class Gain:
    """Log probability of the right image that one decoder gives beyond another, mean over images, with standard error.

    images, trials : that both decoded, and neither was fitted to
    """

    mean: float
    error: float
    images: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, images as independent."""
        return self.mean - 1.96 * self.error, self.mean + 1.96 * self.error

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.mean:+.3f} log probability a trial (95 % interval {low:+.3f} to {high:+.3f},"
            f" {self.trials} trials of {self.images} images)"
        )


def calibrated(left_out: LeftOut, head: Head, shown_K: NDArray[np.intp], null_MN: NDArray[np.float32]) -> Calibration:
    """Confidence from the left-out trials, all stages alike."""
    from dataclasses import replace

    right_KN = one_hot(shown_K, left_out.scores_KN.shape[1])
    fitted = fit_temperature(left_out.scores_KN, right_KN, null_MN, head.score)
    return replace(fitted, centred=left_out.way.centred)
