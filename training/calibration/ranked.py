"""The decoder of the trials so far: what ranks, and what gives a reconstruction's tokens where that is another.

With a backbone, a linear decoder of the subject's own trials is fitted beside the one under it. It ranks where it has
less log loss on images left out; the backbone then gives the tokens of reconstructions. A linear decoder needs a weight
for each voxel and number of an embedding, which at the published size (425,984 numbers) is more than a machine holds:
there the backbone ranks.

Letters: V voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import DecoderWeights
from mindsight.decoders.pair.decoder import PairWeights
from mindsight.retrieval import CandidatePool
from training.calibration.fitted import Fitted
from training.calibration.heads import BackboneHead, Head, LinearHead, load_head
from training.calibration.left_out import Images, is_better
from training.calibration.so_far import SoFar

MAX_LINEAR = 1 << 26  # weights of a linear decoder beside a backbone: 256 MB


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of decoder, with the images that the subject may have seen."""

    head: Head
    images: Images

    @classmethod
    def of(cls, head: Head, stimuli: CandidatePool) -> Kind:
        return cls(head, Images(stimuli, head.targets(stimuli)))


@dataclass(frozen=True, eq=False)
class Ranked:
    """What ranks, fitted.

    under : the decoder under the backbone, which gives the tokens, where the linear one ranks; else None
    """

    kind: Kind
    fitted: Fitted
    under: tuple[BackboneHead, Fitted] | None = None

    @property
    def keep_V(self) -> NDArray[np.bool_]:
        """The voxels that are read."""
        return self.fitted.keep_V if self.under is None else self.fitted.keep_V | self.under[1].keep_V

    @property
    def how(self) -> str:
        """In words, for the record."""
        how = f"{self.kind.head.what}: {self.fitted.way}"
        if self.under is None:
            return how
        head, fitted = self.under
        return f"ranked by {how}; reconstructed by {head.what}: {fitted.way}"

    def weights(self, file: Path) -> DecoderWeights:
        """See ``Head.weights``."""
        ranking = self._weights(self.kind.head, self.fitted, file)
        return ranking if self.under is None else PairWeights(ranking, self._weights(*self.under, file))

    def _weights(self, head: Head, fitted: Fitted, file: Path) -> DecoderWeights:
        return head.weights(fitted.readout.among(fitted.keep_V[self.keep_V]), fitted.way.ridge_penalty, file)


class Kinds:
    """The kinds of decoders that a visit may have.

    backbone : see ``Visit``
    ranked, stimuli : the pools
    n_voxels : of the betas

    Raises as ``load_head`` and ``Head.targets``.
    """

    def __init__(self, backbone: Path | None, ranked: CandidatePool, stimuli: CandidatePool, n_voxels: int) -> None:
        self._own = Kind.of(load_head(backbone, ranked), stimuli)
        self._beside: Kind | None = None
        if backbone is not None and n_voxels * ranked.flat_ND.shape[1] <= MAX_LINEAR:
            self._beside = Kind.of(LinearHead(ranked.token_shape), stimuli)

    def fit(self, so_far: SoFar) -> Ranked:
        """The decoder of all trials so far."""
        own = so_far.fit(self._own.head, self._own.images)
        if self._beside is None or not isinstance(self._own.head, BackboneHead):
            return Ranked(self._own, own)
        linear = so_far.fit(self._beside.head, self._beside.images)
        if is_better(linear.left_out, own.left_out):
            return Ranked(self._beside, linear, (self._own.head, own))
        return Ranked(self._own, own)

    def under_backbone(self, found: Ranked) -> Ranked | None:
        """The closed form that gradient steps start from, whether it ranks or not; None without a backbone."""
        if found.under is not None:
            return Ranked(self._own, found.under[1])
        return found if isinstance(found.kind.head, BackboneHead) else None
