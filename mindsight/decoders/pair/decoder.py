"""Two decoders of the same voxels as one: the first ranks candidates, the second gives what images are generated from.

What ranks best need not give the best images: a linear decoder of the subject's own trials beside a backbone that
subjects share. Knows nothing of what the two are.

Letters: V voxels, B trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import Decoder, DecoderWeights, PriorOptions, Refined
from mindsight.errors import ModelMismatch
from mindsight.features import Features, FeatureSpace
from mindsight.weights.device import HOST, Placement

RANKING, DRAWN = "decoder-ranking-", "decoder-drawn-"  # folders in a bundle's, each with its kind behind


@dataclass(frozen=True, eq=False)
class PairWeights:
    """ranking : its query ranks; drawn : its ``refine`` gives the features of images"""

    ranking: DecoderWeights
    drawn: DecoderWeights
    kind = "pair"

    @classmethod
    def load(cls, folder: Path, load: Callable[[str, Path], DecoderWeights]) -> PairWeights:
        """What ``save`` wrote. load : a decoder of a kind from a folder. Raises ModelMismatch (``model.file``)."""
        return cls(_only(folder, RANKING, load), _only(folder, DRAWN, load))

    @property
    def n_voxels(self) -> int | None:
        return self.drawn.n_voxels if self.ranking.n_voxels is None else self.ranking.n_voxels

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.ranking.shape

    def describe(self) -> str:
        return f"ranked by {self.ranking.kind}, {self.ranking.describe()}; images by {self.drawn.kind}"

    def save(self, folder: Path) -> None:
        """Write each into a folder of its own."""
        for name, weights in ((RANKING, self.ranking), (DRAWN, self.drawn)):
            own = folder / f"{name}{weights.kind}"
            own.mkdir()
            weights.save(own)

    def decoder(self, space: FeatureSpace, placement: Placement = HOST, *, lowlevel: bool = False) -> PairDecoder:
        """Both made ready. Raises ModelMismatch: ``decoder.voxel_count`` if they read other numbers of voxels,
        ``decoder.kind`` if images are generated from the very features that rank, and what either raises.
        """
        ranking, drawn = self.ranking.decoder(space, placement), self.drawn.decoder(space, placement, lowlevel=lowlevel)
        if ranking.n_voxels != drawn.n_voxels:
            raise ModelMismatch(
                f"expected two decoders of the same voxels, got {ranking.n_voxels} in the one that ranks and"
                f" {drawn.n_voxels} in the other: calibrate again",
                code="decoder.voxel_count",
            )
        if ranking.query in drawn.condition:
            raise ModelMismatch(
                f"expected a decoder that generates images from other features than {ranking.query}, which rank, got"
                f" one of the kind {self.drawn.kind}: use it alone",
                code="decoder.kind",
            )
        return PairDecoder(ranking, drawn, placement)


class PairDecoder:
    """placement : where the second lies; the query goes there too"""

    def __init__(self, ranking: Decoder, drawn: Decoder, placement: Placement) -> None:
        self._ranking, self._drawn, self._placement = ranking, drawn, placement
        self.n_voxels = ranking.n_voxels
        self.query, self.origin = ranking.query, ranking.origin
        self.condition, self.refined = drawn.condition, drawn.refined
        own = {name: drawn.spaces[name] for name in drawn.condition}
        self.spaces: Mapping[str, FeatureSpace] = {ranking.query: ranking.spaces[ranking.query], **own}

    def __call__(self, voxels_BV: NDArray[np.float32]) -> Features:
        drawn, query = self._drawn(voxels_BV), self._ranking(voxels_BV)[self.query]
        if self._placement != HOST:
            query = self._placement.feature(self._placement.tensor(query))
        return {self.query: query, **{name: drawn[name] for name in self.condition}}

    def refine(self, condition: Features, seed: int, options: PriorOptions) -> Refined:
        return self._drawn.refine(condition, seed, options)

    def expect(self, seed: int, options: PriorOptions) -> None:
        self._drawn.expect(seed, options)


def _only(folder: Path, name: str, load: Callable[[str, Path], DecoderWeights]) -> DecoderWeights:
    found = sorted(folder.glob(f"{name}*"))
    if len(found) != 1:
        raise ModelMismatch(f"expected one folder {name}KIND in the bundle, got {len(found)}", code="model.file")
    return load(found[0].name.removeprefix(name), found[0])
