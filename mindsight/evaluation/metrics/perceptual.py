"""The published metrics that look through a network, one function each.

Knows nothing of files: the network comes loaded (``networks.loading.load_network``). K images of H x H pixels, as
``as_unit_images`` makes them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.features import feature_distance, two_way_identification
from mindsight.evaluation.metrics.metric import ALEXNET_2, ALEXNET_5, CLIP, EFFICIENTNET, INCEPTION, SWAV, Metric, Score
from mindsight.evaluation.networks.catalog import NetworkSpec


class FeatureSource(Protocol):
    """What ``networks.loading.FeatureNetwork`` is."""

    @property
    def spec(self) -> NetworkSpec: ...

    def features(self, images_KHWC: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]: ...


def alexnet_2(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Two-way identification behind AlexNet's second convolution (``features.4``)."""
    return _through(network, ALEXNET_2, images_KHWC, recons_KHWC)


def alexnet_5(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Two-way identification behind AlexNet's fifth convolution (``features.11``)."""
    return _through(network, ALEXNET_5, images_KHWC, recons_KHWC)


def inception(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Two-way identification by Inception v3's last pooling."""
    return _through(network, INCEPTION, images_KHWC, recons_KHWC)


def clip(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Two-way identification by the image embedding of OpenAI's CLIP ViT-L/14."""
    return _through(network, CLIP, images_KHWC, recons_KHWC)


def efficientnet(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Correlation distance of EfficientNet-B1's last pooling: lower is better."""
    return _through(network, EFFICIENTNET, images_KHWC, recons_KHWC)


def swav(images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any], network: FeatureSource) -> Score:
    """Correlation distance of SwAV's ResNet-50's last pooling: lower is better."""
    return _through(network, SWAV, images_KHWC, recons_KHWC)


def of_features(metric: Metric, images_KD: NDArray[Any], recons_KD: NDArray[Any]) -> Score:
    """What is compared by a metric: identification where higher is better, else a distance."""
    compare = two_way_identification if metric.higher_is_better else feature_distance
    return compare(metric, images_KD, recons_KD)


def _through(network: FeatureSource, metric: Metric, images_KHWC: NDArray[Any], recons_KHWC: NDArray[Any]) -> Score:
    """Raises BadRequest (``features.network``) if the metric is of another network."""
    layer = next((layer for layer, served in network.spec.metrics.items() if served == metric), None)
    if layer is None:
        raise BadRequest(f"expected the network of {metric.title}, got {network.spec.key}", code="features.network")
    return of_features(metric, network.features(images_KHWC)[layer], network.features(recons_KHWC)[layer])
