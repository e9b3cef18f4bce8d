"""The unCLIP generator: image tokens and a seed become an image in a few steps of a small U-Net.

Knows nothing of brains or of where tokens come from. The network is diffusers' own ``UNet2DConditionModel`` in SDXL's
shape at a fraction of its size; its noise schedule is SDXL's. Two things differ, both because the model is tiny: the
latent is the image itself, its pixels moved into channels (``pixel_unshuffle``) instead of encoded, and the network
predicts the clean latent instead of the noise, so that its first step already gives an image and later ones sharpen it.

Axes: B images, N tokens (a square grid, row by row), D channels of a token, C channels of the latent, H and W.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mindsight.encoders.demo import to_grid, token_space
from mindsight.errors import BadRequest
from mindsight.features import Array, Features, FeatureSpace
from mindsight.generators.base import Drawn, SampleOptions
from mindsight.generators.engines.base import Engine, Network, NetworkInput, Runner
from mindsight.generators.sampling.plan import SamplerPlan, tabulate
from mindsight.generators.sampling.presets import preview_after
from mindsight.generators.sampling.schedule import trailing
from mindsight.weights.artefact import built, read_artefact, write_artefact
from mindsight.weights.device import HOST, Placement

_STEPS = 4  # more do not change the image


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of a generator, and the digest of the encoder whose tokens it was trained on.

    fold : edge of the square of pixels that one latent cell holds
    widths : channels of the U-Net at the latent's size and at half of it
    """

    image_size: int = 64
    fold: int = 8
    n_tokens: int = 16
    token_dim: int = 64
    widths: tuple[int, int] = (96, 112)
    heads: int = 2
    encoder_digest: str = ""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        edge = self.image_size // self.fold
        return (3 * self.fold**2, edge, edge)


class Denoiser(nn.Module):
    """The U-Net: a noisy latent, its timestep and tokens in, the clean latent out.

    Tokens enter twice: through cross-attention as in SDXL, and placed on their grid beside the latent, which shows a
    small network directly where things are.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        from diffusers import UNet2DConditionModel  # seconds of import, for those who generate only

        super().__init__()
        self.config = config
        channels, edge, _ = config.latent_shape
        self.unet: Any = UNet2DConditionModel(
            sample_size=edge,
            in_channels=channels + config.token_dim,
            out_channels=channels,
            block_out_channels=config.widths,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=config.token_dim,
            attention_head_dim=config.heads,  # diffusers' name for the number of heads
            norm_num_groups=16,
            use_linear_projection=True,
        )

    def forward(self, latent_BCHW: Tensor, timestep_B: Tensor, tokens_BND: Tensor) -> Tensor:
        grid_BDHW = functional.interpolate(to_grid(tokens_BND), size=latent_BCHW.shape[2:], mode="nearest")
        unet_input = torch.cat([latent_BCHW, grid_BDHW], dim=1)
        clean_BCHW: Tensor = self.unet(unet_input, timestep_B, tokens_BND, return_dict=False)[0]
        return clean_BCHW


@lru_cache
def sampling_plan(steps: int) -> SamplerPlan:
    """The table that samples in ``steps`` steps."""
    return tabulate(trailing(steps), predicts="clean")


class DemoGenerator:
    """Makes images of tokens; made by ``load``."""

    def __init__(self, denoiser: Denoiser, digest: str = "", placement: Placement = HOST) -> None:
        self._denoiser, self._placement = denoiser.eval(), placement
        self._evaluate: Runner = self._denoiser
        self.config = denoiser.config
        self.digest = digest

    @classmethod
    def load(cls, folder: Path, placement: Placement = HOST) -> DemoGenerator:
        """The generator of ``folder``, verified, on a device; ``ModelMismatch`` if it is not what its manifest says."""
        artefact = read_artefact(folder, "generator")
        denoiser = built(
            artefact,
            "generator",
            lambda config: Denoiser(GeneratorConfig(**(config | {"widths": tuple(config["widths"])}))),
        )
        placement.place(denoiser)
        return cls(denoiser.requires_grad_(False), artefact.digest, placement)

    def save(self, folder: Path) -> None:
        """Write weights (fp16), config and manifest into ``folder``."""
        self.digest = write_artefact(folder, "generator", asdict(self.config), self._denoiser.state_dict())

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def spaces(self) -> Mapping[str, FeatureSpace]:
        space = token_space(self.config.n_tokens, self.config.token_dim, self.config.encoder_digest)
        return {space.name: space}

    def needs(self, options: SampleOptions) -> Mapping[str, FeatureSpace]:
        """The tokens."""
        return self.spaces

    @property
    def networks(self) -> tuple[Network, ...]:
        """The denoiser, for an engine."""
        dtype = self._placement.torch_dtype
        inputs = (
            NetworkInput("latent_BCHW", self.config.latent_shape, dtype),
            NetworkInput("timestep_B", (), torch.float32),
            NetworkInput("tokens_BND", (self.config.n_tokens, self.config.token_dim), dtype),
        )
        return (Network("denoiser", self._denoiser, inputs),)

    def use(self, engine: Engine) -> None:
        """From now on, run the denoiser on an engine."""
        self._evaluate = engine.networks["denoiser"]

    def evaluations(self, options: SampleOptions) -> int:
        """One in each step."""
        return _STEPS if options.steps is None else options.steps

    def __call__(self, features: Features, seed: int, options: SampleOptions) -> NDArray[np.uint8]:
        """(B, H, W, 3) images of the tokens of the demo encoder, see ``generate``."""
        (name,) = self.spaces
        return self.generate(features[name], seed, self.evaluations(options))

    @torch.inference_mode()
    def versions(
        self, features: Features, seed: int, options: SampleOptions, *, sparing: bool = False
    ) -> Iterator[Drawn]:
        """A preview after the first step, which already gives an image. No step is guided: nothing can be spared."""
        (name,) = self.spaces
        tokens, noise_BCHW = self._inputs(features[name], seed)
        steps = self.evaluations(options)
        after = [step for step in (preview_after(steps), steps) if step]
        for step, latent_BCHW in zip(after, estimates(self._evaluate, tokens, noise_BCHW, steps, after), strict=True):
            images = to_images(functional.pixel_shuffle(latent_BCHW, self.config.fold))
            yield Drawn(images, evaluations=step, is_preview=step < steps)

    @torch.inference_mode()
    def generate(self, tokens_BND: Array, seed: int, steps: int = _STEPS) -> NDArray[np.uint8]:
        """(B, H, W, 3) one image for each set of tokens.

        All images of a call start from the one noise that ``seed`` names, so an image does not depend on what it is
        generated together with.

        Raises BadRequest (``generator.features``) if ``tokens_BND`` is not (B, n_tokens, token_dim).
        """
        tokens, noise_BCHW = self._inputs(tokens_BND, seed)
        latent_BCHW = sample(self._evaluate, tokens, noise_BCHW, steps)
        return to_images(functional.pixel_shuffle(latent_BCHW, self.config.fold))

    def _inputs(self, tokens_BND: Array, seed: int) -> tuple[Tensor, Tensor]:
        """Tokens, and the noise of a seed for each, on the device."""
        expected = (self.config.n_tokens, self.config.token_dim)
        if tokens_BND.ndim != 3 or tokens_BND.shape[1:] != expected:
            raise BadRequest(
                f"expected tokens of shape (B, {expected[0]}, {expected[1]}), got {tokens_BND.shape}: choose the"
                " generator that was trained on this encoder's tokens",
                code="generator.features",
            )
        if isinstance(tokens_BND, np.ndarray):
            tokens_BND = np.ascontiguousarray(tokens_BND, dtype=np.float32)
        tokens = self._placement.tensor(tokens_BND)
        drawn_CHW = torch.randn(self.config.latent_shape, generator=torch.Generator().manual_seed(seed))
        noise_CHW = self._placement.moved(drawn_CHW)
        return tokens, noise_CHW.expand(len(tokens), -1, -1, -1)


def sample(denoiser: Runner, tokens_BND: Tensor, noise_BCHW: Tensor, steps: int) -> Tensor:
    """Latents (B, C, H, W) from noise."""
    [latent_BCHW] = estimates(denoiser, tokens_BND, noise_BCHW, steps, [steps])
    return latent_BCHW


def estimates(
    denoiser: Runner, tokens_BND: Tensor, noise_BCHW: Tensor, steps: int, after: Collection[int]
) -> Iterator[Tensor]:
    """Latents as estimated after these numbers of steps, each once it is known."""

    def predict(latent_BCHW: Tensor, timestep: float, _: bool) -> tuple[Tensor, ...]:
        timestep_B = torch.full((len(latent_BCHW),), timestep, device=latent_BCHW.device)
        return (denoiser(latent_BCHW.to(tokens_BND.dtype), timestep_B, tokens_BND),)

    return sampling_plan(steps).estimates(predict, noise_BCHW, after=after)


def to_images(pixels_B3HW: Tensor) -> NDArray[np.uint8]:
    """Pixels in [-1, 1] to uint8 (B, H, W, 3)."""
    scaled = pixels_B3HW.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().byte()
    images: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return images
