"""The published metrics by name, and a score with its values by image, n, interval and chance level.

Knows nothing of how a score is computed. K is the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import wilson_interval

BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the table; ``percent``: shown times 100; ``chance``: the score of guessing if known."""

    key: str
    title: str
    percent: bool = False
    higher_is_better: bool = True
    chance: float | None = None


PIXCORR = Metric("pixcorr", "PixCorr")
SSIM = Metric("ssim", "SSIM")
ALEXNET_2 = Metric("alexnet2", "AlexNet(2)", percent=True, chance=0.5)
ALEXNET_5 = Metric("alexnet5", "AlexNet(5)", percent=True, chance=0.5)
INCEPTION = Metric("inception", "Inception", percent=True, chance=0.5)
CLIP = Metric("clip", "CLIP", percent=True, chance=0.5)
EFFICIENTNET = Metric("efficientnet", "EffNet-B", higher_is_better=False)
SWAV = Metric("swav", "SwAV", higher_is_better=False)
IMAGES_RANKED = Metric("images_ranked", "images ranked, published as Brain", percent=True, chance=1 / 300)
BRAINS_RANKED = Metric("brains_ranked", "brains ranked, published as Image", percent=True, chance=1 / 300)

IMAGE_METRICS = (PIXCORR, SSIM, ALEXNET_2, ALEXNET_5, INCEPTION, CLIP, EFFICIENTNET, SWAV)
RETRIEVAL_METRICS = (BRAINS_RANKED, IMAGES_RANKED)  # in the order of the published columns: Image, Brain
METRICS = (*IMAGE_METRICS, *RETRIEVAL_METRICS)


@dataclass(frozen=True, eq=False)
class Score:
    """One metric over K images; its value is their mean.

    values_K : (K,) the score of each image
    """

    metric: Metric
    values_K: NDArray[np.float64]

    @property
    def value(self) -> float:
        return float(self.values_K.mean())

    @property
    def n(self) -> int:
        return len(self.values_K)

    def __float__(self) -> float:
        return self.value

    def interval(
        self, rng: np.random.Generator, clusters_K: NDArray[np.int64] | None = None, level: float = 0.95
    ) -> tuple[float, float]:
        """Interval of the mean over images; see ``cluster_interval``.

        Where all images are hits, or none, a bootstrap gives an interval of length zero; then this is Wilson's interval
        with the number of clusters as n.
        """
        clusters_K = np.arange(self.n) if clusters_K is None else clusters_K
        if self.metric.percent and (np.all(self.values_K == 0.0) or np.all(self.values_K == 1.0)):
            n_clusters = len(np.unique(clusters_K))
            z = NormalDist().inv_cdf((1.0 + level) / 2.0)
            return wilson_interval(n_clusters * int(self.values_K[0]), n_clusters, z)
        return cluster_interval(self.values_K, clusters_K, rng, level)


def cluster_interval(
    values_K: NDArray[Any], clusters_K: NDArray[np.int64], rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap of the mean in which images of one cluster are drawn together.

    Near-duplicates are not independent: drawn one by one they make the interval too narrow. The interval covers the
    choice of images, not that of participants or training runs.
    """
    labels, members = np.unique(clusters_K, return_inverse=True)
    sums = np.bincount(members, weights=values_K)
    sizes = np.bincount(members)
    drawn = rng.integers(len(labels), size=(BOOTSTRAPS, len(labels)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    outside = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [outside, 100.0 - outside])
    return float(low), float(high)
