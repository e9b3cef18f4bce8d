"""An SDXL unCLIP as a generator: the tokens of its image tower in, images out.

Knows nothing of brains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import LOWLEVEL, Features, FeatureSpace
from mindsight.generators.base import Drawn, SampleOptions
from mindsight.generators.engines.base import Engine, Network, NetworkInput, PlainEngine
from mindsight.generators.sampling.presets import plan, preset_of, preview_after
from mindsight.generators.unclip.sdxl.folder import read_folder
from mindsight.generators.unclip.sdxl.loading import built
from mindsight.generators.unclip.sdxl.lowlevel import LowLevelDecoder, load_lowlevel
from mindsight.generators.unclip.sdxl.pipeline import FACTOR, Unclip
from mindsight.generators.unclip.sdxl.tiny import load_tiny
from mindsight.weights.device import HOST, Placement

_PRESET = "fast"
TINY, LOWLEVEL_FOLDER = "tiny", "lowlevel"  # within a generator's folder


class UnclipGenerator:
    """Makes images of tokens; made by ``load``."""

    def __init__(
        self,
        unclip: Unclip,
        space: FeatureSpace,
        digest: str,
        lowlevel: LowLevelDecoder | None = None,
        preset: str = _PRESET,
    ) -> None:
        self.unclip, self.digest, self.lowlevel, self._preset = unclip, digest, lowlevel, preset
        self.spaces: Mapping[str, FeatureSpace] = {space.name: space}

    @classmethod
    def load(cls, folder: Path, placement: Placement = HOST) -> UnclipGenerator:
        """The unCLIP of a folder that ``mindsight convert unclip`` wrote, verified, on a device. Where they are there,
        the tiny autoencoder in its folder ``tiny/`` decodes previews, and Stable Diffusion's in ``lowlevel/`` the image
        that ``sdedit`` starts from.

        Raises ModelMismatch: what ``load_unclip``, ``load_tiny`` and ``load_lowlevel`` raise, and ``generator.space``
        if the folder does not record whose tokens it was trained with.
        """
        read = read_folder(folder)
        if read.space is None:
            raise ModelMismatch(
                f"expected the space of its tokens in {folder.name}, got none: convert a checkpoint that carries its"
                " image tower",
                code="generator.space",
            )
        unclip = built(read, placement.torch_dtype, placement.device)
        if (folder / TINY).is_dir():
            unclip.preview = load_tiny(folder / TINY, placement.torch_dtype, placement.device)
        has_lowlevel = (folder / LOWLEVEL_FOLDER).is_dir()
        lowlevel = load_lowlevel(folder / LOWLEVEL_FOLDER, placement.device) if has_lowlevel else None
        return cls(unclip, read.space, read.digest, lowlevel, read.preset or _PRESET)

    def needs(self, options: SampleOptions) -> Mapping[str, FeatureSpace]:
        """Tokens, and for the preset ``sdedit`` the low-level latent. Raises BadRequest (``generator.preset``)."""
        if not preset_of(options.preset or self._preset).needs_start:
            return self.spaces
        if self.lowlevel is None:
            raise ModelMismatch(
                f"expected Stable Diffusion's autoencoder in {LOWLEVEL_FOLDER}/ of the generator's folder, which sdedit"
                " needs for the low-level image, got none: put diffusers' folder there, or choose another preset",
                code="generator.lowlevel",
            )
        return {**self.spaces, LOWLEVEL.name: LOWLEVEL}

    @property
    def image_size(self) -> int:
        return self.unclip.size_px

    @property
    def networks(self) -> tuple[Network, ...]:
        """The U-Net, what makes its keys and values, and the full decoder, for an engine.

        Latents come to the decoder in float32, as they are summed.
        """
        [space] = self.spaces.values()
        layout, dtype, modules = self.unclip.layout, self.unclip.unet.dtype, self.unclip.modules
        latent = (layout.channels, self.image_size // FACTOR, self.image_size // FACTOR)
        denoiser = (
            NetworkInput("latent_BCHW", latent, dtype),
            NetworkInput("timestep_B", (), torch.float32),
            NetworkInput("keys_values_BNK", (space.shape[0], len(modules.keys_values.weight_KD)), dtype),
            NetworkInput("vector_BC", (layout.vector_dim,), dtype),
        )
        return (
            Network("denoiser", modules.denoiser, denoiser),
            Network("keys_values", modules.keys_values, (NetworkInput("tokens_BND", tuple(space.shape), dtype),)),
            Network("decoder", modules.decoder, (NetworkInput("latent_BCHW", latent, torch.float32),)),
        )

    def use(self, engine: Engine) -> None:
        """From now on, run these networks on an engine, and each sampling loop as a whole if it can."""
        run, loop = engine.networks, None if isinstance(engine, PlainEngine) else engine.loop
        self.unclip.use(run["keys_values"], run["denoiser"], run["decoder"], loop)

    def evaluations(self, options: SampleOptions) -> int:
        """Guided steps have two. Raises BadRequest (``generator.preset``)."""
        return plan(options.preset or self._preset, options.steps).evaluations

    def __call__(self, features: Features, seed: int, options: SampleOptions) -> NDArray[np.uint8]:
        """(B, H, W, 3) images. If none is named, the preset is the one that the folder records, else ``fast``."""
        start = self._lowlevel_images(features) if LOWLEVEL.name in self.needs(options) else None
        preset = options.preset or self._preset
        return to_images(self.unclip.sample(self._tokens(features), preset, seed, steps=options.steps, start=start))

    @torch.inference_mode()
    def versions(
        self, features: Features, seed: int, options: SampleOptions, *, sparing: bool = False
    ) -> Iterator[Drawn]:
        """A preview after a quarter of the steps, then what a call gives."""
        table = plan(options.preset or self._preset, options.steps)
        starts = LOWLEVEL.name in self.needs(options)
        has_lowlevel = starts or (self.lowlevel is not None and LOWLEVEL.name in features)
        lowlevel = self._lowlevel_images(features) if has_lowlevel else None
        inputs = self.unclip.inputs(table, self._tokens(features), seed, start=lowlevel if starts else None)
        first = preview_after(table.steps)
        for number, images_B3HW in enumerate(self.unclip.versions(table, inputs, sparing=sparing)):
            step = first if first and number == 0 else table.steps
            blurred = None if lowlevel is None or step < table.steps else to_images(lowlevel)
            yield Drawn(to_images(images_B3HW), table.evaluations_after(step), step < table.steps, blurred)

    def _lowlevel_images(self, features: Features) -> torch.Tensor:
        """(B, 3, 224, 224) in [0, 1]."""
        latent_BCHW = features.get(LOWLEVEL.name)
        if latent_BCHW is None or latent_BCHW.shape[1:] != LOWLEVEL.shape:
            raise BadRequest(
                f"expected low-level latents of shape (B, 4, 28, 28), got"
                f" {'none' if latent_BCHW is None else latent_BCHW.shape}: choose a decoder with a low-level head",
                code="generator.features",
            )
        assert self.lowlevel is not None
        return self.lowlevel(Placement(str(self.unclip.device)).moved(latent_BCHW))

    def _tokens(self, features: Features) -> torch.Tensor:
        [(name, space)] = self.spaces.items()
        tokens_BND = features[name]
        if tokens_BND.shape[1:] != space.shape:
            raise BadRequest(
                f"expected tokens of shape (B, {space.shape[0]}, {space.shape[1]}), got {tokens_BND.shape}: choose the"
                " generator that was trained on this encoder's tokens",
                code="generator.features",
            )
        return torch.from_numpy(tokens_BND) if isinstance(tokens_BND, np.ndarray) else tokens_BND


def to_images(images_B3HW: torch.Tensor) -> NDArray[np.uint8]:
    """Images in [0, 1] to uint8 (B, H, W, 3): the one copy to the host."""
    images_BHW3 = images_B3HW.mul(255.0).round().byte().permute(0, 2, 3, 1).contiguous()
    images: NDArray[np.uint8] = images_BHW3.cpu().numpy()
    return images
