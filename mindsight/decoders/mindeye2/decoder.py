"""MindEye2 as one of the decoders: the backbone and retrieval head for the ranking, the prior for the reconstruction.

Torch is imported when weights are made ready, not when a bundle is read.

Letters: V voxels, B trials, N tokens, D channels.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import WEIGHTS, PriorOptions, Refined
from mindsight.decoders.mindeye2.schedule import sampler_table
from mindsight.errors import ModelMismatch
from mindsight.features import LOWLEVEL, Features, FeatureSpace
from mindsight.weights.device import HOST, Placement

if TYPE_CHECKING:
    from mindsight.decoders.mindeye2.folded import FoldedMindEye2
    from mindsight.decoders.mindeye2.noises import Noises
    from mindsight.decoders.mindeye2.prior import DiffusionPrior
    from mindsight.decoders.mindeye2.sampler import Sampler

BACKBONE = "mindeye2-backbone"  # the space of the tokens that condition the prior


@dataclass(frozen=True)
class MindEye2Weights:
    """A safetensors file with MindEye2's weights and the ridge layer of one subject, see ``mindsight convert``."""

    path: Path
    kind = "mindeye2"
    n_voxels = None
    shape = None

    def __post_init__(self) -> None:
        if self.path.suffix != ".safetensors":
            raise ModelMismatch(
                f"expected MindEye2's weights as safetensors, got {self.path.name}: mindsight convert mindeye2",
                code="bundle.invalid",
            )

    @classmethod
    def load(cls, folder: Path) -> MindEye2Weights:
        return cls(folder / WEIGHTS)

    def describe(self) -> str:
        return "MindEye2's weights unchanged"

    def save(self, folder: Path) -> None:
        shutil.copyfile(self.path, folder / WEIGHTS)

    def decoder(self, space: FeatureSpace, placement: Placement = HOST, *, lowlevel: bool = False) -> MindEye2Decoder:
        """Loaded and folded in float32, then cast once. Raises ModelMismatch for a file that is no MindEye2
        checkpoint, see ``load_mindeye2``.
        """
        from mindsight.decoders.mindeye2.folded import fold
        from mindsight.decoders.mindeye2.loading import load_mindeye2

        folded = fold(load_mindeye2(self.path))
        folded.place(placement)
        return MindEye2Decoder(folded, space, placement, lowlevel=lowlevel)


class MindEye2Decoder:
    """The first subject's decoder of a model, in its inference form.

    space : of the image tokens that the model was trained towards: its retrieval head and its prior both predict them
    placement : where the folded model lies; tokens stay there from the call through ``refine``
    lowlevel : whether its low-level head is used, if it has one
    """

    origin = None

    def __init__(
        self, folded: FoldedMindEye2, space: FeatureSpace, placement: Placement = HOST, *, lowlevel: bool = False
    ) -> None:
        layout = folded.trunk.layout
        self._folded, self._prior, self._placement = folded, folded.prior, placement
        self._samplers: dict[int, tuple[Sampler, Noises]] = {}
        self.n_voxels = folded.n_voxels
        self.query = space.name
        low = {LOWLEVEL.name: LOWLEVEL} if lowlevel and layout.lowlevel else {}
        self.condition: tuple[str, ...] = (BACKBONE, *low)
        self.spaces: Mapping[str, FeatureSpace] = {
            space.name: space,
            BACKBONE: FeatureSpace(BACKBONE, (layout.tokens, layout.dim)),
            **low,
        }
        self.refined: Mapping[str, FeatureSpace] = {space.name: space, **low}

    def __call__(self, voxels_BV: NDArray[np.float32]) -> Features:
        at = self._placement
        tokens = self._folded.tokens(at.tensor(voxels_BV), lowlevel=LOWLEVEL.name in self.spaces)
        low = {} if tokens.lowlevel is None else {LOWLEVEL.name: at.feature(tokens.lowlevel)}
        return {self.query: at.feature(tokens.retrieval), BACKBONE: at.feature(tokens.backbone), **low}

    def refine(self, condition: Features, seed: int, options: PriorOptions) -> Refined:
        """Image tokens from the prior; of a model without one, the backbone's own tokens. The low-level latent stays
        as it is.
        """
        backbone_BND = condition[BACKBONE]
        low = {name: condition[name] for name in self.condition if name != BACKBONE}
        if self._prior is None:
            return Refined({self.query: backbone_BND, **low}, 0)
        sampler, noises = self._sampling(self._prior, options.steps)
        repeated = self._placement.tensor(backbone_BND).repeat_interleave(options.draws, dim=0)
        tokens = sampler(repeated, noises.of(seed, len(repeated)))
        tokens_BND = tokens.reshape(-1, options.draws, *tokens.shape[1:]).mean(dim=1)
        refined = {self.query: self._placement.feature(tokens_BND), **low}
        return Refined(refined, len(sampler_table(options.steps)))

    def expect(self, seed: int, options: PriorOptions) -> None:
        """Draw the noise of one trial with this seed."""
        if self._prior is not None:
            self._sampling(self._prior, options.steps)[1].of(seed, options.draws)

    def _sampling(self, prior: DiffusionPrior, steps: int) -> tuple[Sampler, Noises]:
        from mindsight.decoders.mindeye2.noises import Noises
        from mindsight.decoders.mindeye2.sampler import Sampler

        if steps not in self._samplers:
            sampler = Sampler(prior, steps)
            self._samplers[steps] = sampler, Noises(sampler)
        return self._samplers[steps]
