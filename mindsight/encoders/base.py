"""What every encoder is: images in, features in one named space out.

Which kinds there are is in ``registry``. Letters: B images, H and W pixels.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.features import FeatureSpace


class Encoder(Protocol):
    """Embeds squares of one size."""

    @property
    def image_size(self) -> int:
        """Side of the squares in pixels."""

    @property
    def space(self) -> FeatureSpace:
        """The features' space, with the digest of the weights."""

    @property
    def source(self) -> str:
        """What it is, in words; kept in the pool."""

    def encode(self, images_BHW3: NDArray[Any]) -> NDArray[np.float32]:
        """(B, *space.shape) features of images (B, H, W, 3), uint8 or floats in [0, 1]."""
