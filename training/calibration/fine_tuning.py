"""Fine-tuning from the closed form, and whether it is worth having.

The images of a visit are split: steps are made on three fifths of them, one fifth decides when to stop, and the last
fifth compares what came out with the closed form it started from. Only if it is better there, with its whole 95 %
interval, are as many steps made from the closed form of all trials. Knows nothing of runs or bundles.

Letters: K trials, V voxels, N images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.mindeye2 import MindEye2
from mindsight.retrieval import cosine_scores
from training.calibration.closed_form import GrowingTrials, folds_by_image
from training.calibration.gradient import GradientSteps, Look, Material, Recipe, finite, retrieval_features, warm_model
from training.calibration.heads import BackboneHead
from training.calibration.left_out import Gain, Images, LeftOut, Way, paired_gain, trial_losses

_PARTS = 5


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What fine-tuning came to.

    gain : over the closed form of the same trials, or its rival, on images that neither was fitted to
    judged_K : (J,) rows of the trials that compared them
    left_out : these trials, by the model that was not trained on them
    model : of all trials; None if fine-tuning is not worth having
    trained : the model that was compared
    looks : at the images that decided when to stop
    """

    gain: Gain
    judged_K: NDArray[np.intp]
    left_out: LeftOut
    trained: MindEye2
    model: MindEye2 | None
    looks: tuple[Look, ...]


def fine_tune(
    head: BackboneHead,
    images: Images,
    z_KV: NDArray[np.float32],
    shown_K: NDArray[np.intp],
    way: Way,
    recipe: Recipe,
    scratch: Path | None = None,
    report: Callable[[Look, int | None], bool] = lambda look, until: True,
    rival: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]] | None = None,
) -> FineTuned | None:
    """In the voxels of ``z_KV``; goes on from ``scratch`` after an interruption.

    way : how the closed form is fitted
    report : told of each look, and how many steps will be made: None while held-out images decide it. False ends it,
        and None is returned
    rival : the log losses of another decoder, fitted to the first trials, on the second; the steps must then have made
        the model better than that one. None: than the closed form that they start from
    """
    parts_K = folds_by_image(shown_K, _PARTS)
    own, stop, judge = (np.flatnonzero(np.isin(parts_K, parts)) for parts in ([0, 2, 4], [1], [3]))
    tokens_NND = np.asarray(images.pool.embeddings, np.float32)

    def losses(model: MindEye2, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        scores_KN = cosine_scores(retrieval_features(model, z_KV[rows]), images.pool)
        return scores_KN, trial_losses(scores_KN, shown_K[rows])

    def trained(
        rows: NDArray[np.intp], until: int | None, name: str
    ) -> tuple[MindEye2, MindEye2, GradientSteps] | None:
        start = closed_model(head, images, z_KV[rows], shown_K[rows], way)
        model = closed_model(head, images, z_KV[rows], shown_K[rows], way)
        material = Material(z_KV[rows], shown_K[rows], tokens_NND[shown_K[rows]])
        file = None if scratch is None else scratch / f"{name}.safetensors"
        steps = GradientSteps(
            model, material, recipe, lambda model: finite(float(losses(model, stop)[1].mean())), file, until
        )
        for look in steps:
            if not report(look, until):
                return None
        return start, model, steps

    if (found := trained(own, None, "fine-tuning")) is None:
        return None
    start, model, steps = found
    new_KN, new_K = losses(model, judge)
    old_K = losses(start, judge)[1] if rival is None else rival(own, judge)
    gain = paired_gain(list(new_K), list(old_K), shown_K[judge])
    whole: MindEye2 | None = None
    if gain.interval[0] > 0.0:
        if (found := trained(np.arange(len(z_KV)), steps.best.step, "fine-tuning-all")) is None:
            return None
        whole = found[1]
    return FineTuned(gain, judge, LeftOut(way, new_KN, new_K), model, whole, tuple(steps.looks))


def closed_model(
    head: BackboneHead, images: Images, z_KV: NDArray[np.float32], shown_K: NDArray[np.intp], way: Way
) -> MindEye2:
    """The closed form of these trials, as a model that can be trained."""
    trials = GrowingTrials(z_KV.shape[1], images.target_NH.shape[1])
    trials.push(z_KV, images.target_NH[shown_K])
    readout = trials.fit(way.method, way.penalty)
    return warm_model(head.model, readout.weights_VH.astype(np.float32), readout.intercept_H.astype(np.float32))
