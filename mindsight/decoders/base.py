"""What every decoder is: z-scored betas in, features in named spaces out.

A decoder has two forms. A bundle holds ``DecoderWeights``: light, and saved with it. ``Decoder`` is made of them where
betas are decoded, and may import networks. ``registry`` lists the kinds; ``docs/decoders.md`` says how to add one.

Letters: V voxels, B trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.features import Array, Features, FeatureSpace
from mindsight.weights.device import HOST, Placement

WEIGHTS = "decoder.safetensors"  # a decoder's file in the folder of a bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorOptions:
    """How a decoder with a diffusion prior samples it; others have no use for it.

    steps : of its schedule, 2 to 100
    draws : samples that are averaged for one reconstruction. MindEye2's reference takes one; the mean of several is
        closer to the features of the image that was seen

    The defaults are what bundles were decoded with before they recorded it.
    """

    steps: int = 10
    draws: int = 8


class Refined(NamedTuple):
    """Features for a generator, and the network evaluations that they took."""

    features: Features
    steps: int


class Decoder(Protocol):
    """Decodes one subject.

    There are two steps, because retrieval needs its features within milliseconds and a reconstruction may take a
    hundred times as long: a call gives the features that are ranked, ``refine`` those that an image is generated from.
    """

    @property
    def n_voxels(self) -> int: ...

    @property
    def spaces(self) -> Mapping[str, FeatureSpace]:
        """The features that a call gives, by name."""

    @property
    def query(self) -> str:
        """Name of those that the candidate pool is searched with."""

    @property
    def condition(self) -> tuple[str, ...]:
        """Names of those that ``refine`` takes; empty if nothing can be reconstructed from them."""

    @property
    def refined(self) -> Mapping[str, FeatureSpace]:
        """The features that ``refine`` gives, by name."""

    @property
    def origin(self) -> NDArray[np.float32] | None:
        """The query of an average beta, if the decoder knows it: what candidates have in common."""

    def __call__(self, voxels_BV: NDArray[np.float32]) -> Features:
        """Features of z-scored betas. Raises ModelMismatch (``decoder.voxel_count``)."""

    def refine(self, condition: Features, seed: int, options: PriorOptions) -> Refined:
        """Features for a generator; the same seed gives the same features."""

    def expect(self, seed: int, options: PriorOptions) -> None:
        """Prepare what ``refine`` needs and the seed alone decides, so that it is sooner done for the next trial."""


class DecoderWeights(Protocol):
    """A decoder as a bundle holds it."""

    @property
    def kind(self) -> str:
        """Its name in the registry."""

    @property
    def n_voxels(self) -> int | None:
        """None if only the network knows them."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one query; None if only the network knows it."""

    def describe(self) -> str:
        """How the weights came about, for a person."""

    def save(self, folder: Path) -> None:
        """Write the weights into the folder of a bundle, under names that begin with ``decoder``."""

    def decoder(self, space: FeatureSpace, placement: Placement = HOST, *, lowlevel: bool = False) -> Decoder:
        """Ready to decode into the space of the pool, its networks on this device.

        lowlevel : also give ``features.LOWLEVEL``, where the weights have a head for it; ranking does not need it

        Raises ModelMismatch if the weights are not what they say.
        """


def average(features: Features, names: tuple[str, ...]) -> dict[str, Array]:
    """Mean over the trials of the features with these names: (1, *shape) each."""
    return {name: features[name].mean(axis=0)[None] for name in names}
