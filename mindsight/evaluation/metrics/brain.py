"""Brain correlation: the activity that an encoder predicts for a reconstruction, with the measured activity.

Knows nothing of encoders. Letters: K images, V voxels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.metric import Metric, Score
from mindsight.evaluation.metrics.similarity import row_correlations

BrainEncoder = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Images (K, H, W, 3) in [0, 1] to betas (K, V). It resizes them itself: GNet, the published encoder, takes 227 x 227,
Lanczos."""


def brain_correlation(
    recons_KHWC: NDArray[np.float32],
    betas_KV: NDArray[Any],
    encoder: BrainEncoder,
    masks: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Score]:
    """Per region, the Pearson correlation across voxels between predicted and measured activity, per image.

    betas_KV : (K, V) measured, the mean of an image's repeats
    masks : region -> (V,) its voxels; the published regions are the visual cortex, V1 to V4 and higher visual areas
    """
    return brain_scores(encoder(recons_KHWC), betas_KV, masks)


def brain_scores(
    predicted_KV: NDArray[Any], betas_KV: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Score]:
    """``brain_correlation`` of activity that was predicted elsewhere.

    Raises BadRequest (``brain.shape``) if predicted betas, measured betas and masks differ in their voxels.
    """
    for what, shape in (("measured", betas_KV.shape), *((name, mask_V.shape) for name, mask_V in masks.items())):
        if shape[-1:] != predicted_KV.shape[1:]:
            raise BadRequest(
                f"expected {predicted_KV.shape[1:]} voxels, as in the predicted betas, got {shape} of {what}",
                code="brain.shape",
            )
    return {
        region: Score(
            Metric(f"brain_{region}", f"brain correlation, {region}"),
            row_correlations(np.asarray(predicted_KV)[:, mask_V], np.asarray(betas_KV)[:, mask_V]),
        )
        for region, mask_V in masks.items()
    }
