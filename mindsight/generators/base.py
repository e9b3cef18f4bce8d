"""What every generator is: features in the spaces that it asks for, a seed and options in, images out.

Which kinds there are is in ``registry``. Letters: B images, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.features import Features, FeatureSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleOptions:
    """How an image is sampled. The default is each kind's own way, as bundles that do not record it are reconstructed.

    steps : steps of the sampler for one image; None: as many as are usual for it
    preset : the sampler, for the kinds that have several; None: the kind's own
    """

    steps: int | None = None
    preset: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Drawn:
    """Images as they are after a part of the sampler's steps, or after all of them.

    images : (B, H, W, 3)
    evaluations : of the network so far, for one image
    is_preview : whether steps are still to come
    lowlevel : (B, H, W, 3) the images of ``features.LOWLEVEL``, where it is given and the generator can decode it
    """

    images: NDArray[np.uint8]
    evaluations: int
    is_preview: bool
    lowlevel: NDArray[np.uint8] | None = None


class Generator(Protocol):
    """Makes images of features."""

    @property
    def digest(self) -> str:
        """sha256 of its configuration and weights."""

    @property
    def spaces(self) -> Mapping[str, FeatureSpace]:
        """The features that it needs, by name."""

    def needs(self, options: SampleOptions) -> Mapping[str, FeatureSpace]:
        """The features that it needs to sample in this way: its ``spaces``, and ``features.LOWLEVEL`` to start from it.

        Raises ModelMismatch (``generator.lowlevel``) where it cannot start from that.
        """

    @property
    def image_size(self) -> int:
        """Side of its images in pixels."""

    def evaluations(self, options: SampleOptions) -> int:
        """Evaluations of its network for one image."""

    def __call__(self, features: Features, seed: int, options: SampleOptions) -> NDArray[np.uint8]:
        """(B, H, W, 3) images of features (B, *shape). The same seed gives the same images, whatever B is.

        Features may lie on the host or where the generator computes. Raises BadRequest (``generator.features``) for
        features of another shape.
        """

    def versions(
        self, features: Features, seed: int, options: SampleOptions, *, sparing: bool = False
    ) -> Iterator[Drawn]:
        """A preview after the first steps if there are several, then what a call gives; each once it is made.

        sparing : with less memory, in more time
        """
