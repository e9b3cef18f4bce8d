"""What is measured, and the table that comes of it.

Knows nothing of files. Letters: K images, S samples (reconstructions of one image), H and W pixels, N tokens, D
channels, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.evaluation.image_sets import ImageSet
from mindsight.evaluation.metrics.metric import Score
from mindsight.moved import old_names


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What was shown, in the order of the outputs.

    images_KHWC : (K, H, H, 3) uint8, or floats in [0, 1]
    clusters_K : (K,) near-duplicates share a number
    tokens_KND : (K, ...) the images' embeddings, for retrieval
    betas_KV, masks : measured activity (mean of the repeats) and the regions, for brain correlation
    captions_K : one or more captions of each image, written by people
    """

    image_set: ImageSet
    images_KHWC: NDArray[Any]
    clusters_K: NDArray[np.int64]
    tokens_KND: NDArray[Any] | None = None
    betas_KV: NDArray[Any] | None = None
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    captions_K: Sequence[Sequence[str]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """A decoder's output for the same images, in the same order.

    recons_KSHWC : (K, S, H, H, 3); every sample is scored and the mean is taken, none is selected
    tokens_KND : (K, ...) decoded embeddings, for retrieval
    predicted_KV : (K, V) activity that an encoder predicts for the first sample if it was computed elsewhere
    captions_K : decoded captions
    selection : how reconstructions were selected among several beforehand: ``none``, ``by_prediction`` (by something
        decoded) or ``by_truth`` (by the image that was shown)
    """

    name: str
    recons_KSHWC: NDArray[Any] | None = None
    tokens_KND: NDArray[Any] | None = None
    predicted_KV: NDArray[Any] | None = None
    captions_K: Sequence[str] | None = None
    selection: str = "none"


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table: the scores by metric key, each with its 95 % interval over clusters of images."""

    title: str
    control: bool
    scores: dict[str, Score]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class LiveFigure:
    """Accuracy of live results, in the pool that they were chosen from.

    confidence : their mean confidence if it was computed
    control : expected at chance
    """

    title: str
    accuracy: Accuracy
    confidence: float | None = None
    control: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The table: ``rows`` are the outputs, then the controls.

    not_measured : title of a metric -> reason
    notes : what a reader must know before comparing
    leaks : controls above chance; with even one, no figure can be trusted
    live : accuracy of the live results
    """

    image_set: ImageSet
    n_images: int
    rows: list[Row]
    not_measured: dict[str, str]
    notes: list[str]
    leaks: list[str]
    pool: int
    seed: int
    live: tuple[LiveFigure, ...] = ()


if not TYPE_CHECKING:  # which would take any name for one of this module
    __getattr__ = old_names(__name__)
