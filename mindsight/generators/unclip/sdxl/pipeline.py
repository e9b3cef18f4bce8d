"""Tokens to images with an SDXL unCLIP, on the device that its weights are on.

Knows nothing of brains or files. ``run`` makes no copy to the host and waits for nothing, so that it can be captured in
one CUDA graph; ``sample`` draws the noise before it. Letters: B images, C channels of a latent, N tokens of D
numbers, H and W.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mindsight.errors import BadRequest
from mindsight.generators.sampling.plan import SamplerPlan
from mindsight.generators.sampling.presets import plan, preset_of, preview_after
from mindsight.generators.sampling.schedule import sigma_at
from mindsight.generators.unclip.sdxl.conditioner import draw_noise, draw_uncond, size_vector
from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout
from mindsight.generators.unclip.sdxl.vae import LatentDecoder, encode
from mindsight.weights.device import Placement

FACTOR = 8  # pixels of a latent cell's edge
_GAIN, _SHIFT = 0.8, 0.2  # MindEye2's: the decoder's pixels in [-1, 1] to those that are shown, in [0, 1]

Project = Callable[[Tensor], Tensor]
Evaluate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Decode = Callable[[Tensor], Tensor]
Loop = Callable[..., Tensor]


class Inputs(NamedTuple):
    """What a run needs, on the weights' device.

    noise_BCHW : of standard deviation one
    uncond_BND : None if no step is guided
    start_BCHW : clean latent that the noise is added to, or None
    """

    noise_BCHW: Tensor
    tokens_BND: Tensor
    vector_BC: Tensor
    uncond_BND: Tensor | None = None
    start_BCHW: Tensor | None = None


class Modules(NamedTuple):
    """The networks of an image as they are called, with the weights of the U-Net and the autoencoder."""

    keys_values: KeysValues
    denoiser: Denoiser
    decoder: LatentDecoder


class _Part(NamedTuple):
    """The first steps of a table, or all of them, for inputs of which these are given."""

    table: SamplerPlan
    given: tuple[str, ...]
    steps: int
    sparing: bool = False


def _given_in(inputs: Inputs) -> tuple[str, ...]:
    """Names of those that are there."""
    return tuple(name for name, tensor in zip(Inputs._fields, inputs, strict=True) if tensor is not None)


class Unclip:
    """An SDXL unCLIP.

    unet, vae : diffusers' ``UNet2DConditionModel`` and ``AutoencoderKL``
    keys_values : of the tokens, once for an image
    denoiser : one evaluation of the U-Net, which reads them
    decoder : latents to pixels in [-1, 1]
    preview : the decoder of previews, a tiny autoencoder's (``load_tiny``); None: the full one
    size_px : edge of an image if no noise is given
    """

    def __init__(self, unet: Any, vae: Any, layout: UnetLayout, size_px: int = 768) -> None:
        self.unet, self.vae, self.layout, self.size_px = unet, vae, layout, size_px
        self.modules = Modules(KeysValues(unet), Denoiser(unet), LatentDecoder(vae))
        self.preview: Decode | None = None
        self.use(*self.modules)

    def use(
        self,
        keys_values: Project,
        denoiser: Evaluate,
        decoder: Decode,
        whole: Callable[[Loop], Loop] | None = None,
    ) -> None:
        """From now on, run these networks.

        whole : makes of a sampling loop one that runs at once, such as a CUDA graph; None: call by call
        """
        self.keys_values, self.denoiser, self.decoder = keys_values, denoiser, decoder
        self._whole = whole or _call_by_call
        self._loops: dict[_Part, Loop] = {}

    @property
    def device(self) -> torch.device:
        device: torch.device = next(iter(self.unet.parameters())).device
        return device

    @torch.inference_mode()
    def sample(
        self,
        tokens_BND: Tensor,
        preset: str = "fast",
        seed: int = 0,
        noise: Tensor | None = None,
        uncond: Tensor | None = None,
        vector: Tensor | None = None,
        *,
        steps: int | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], float32, on the weights' device. What is not given is drawn or worked out.

        preset, steps : see ``plan``
        seed : of noise and unconditional tokens; all images of a call have the same
        noise : (B, C, H / 8, W / 8) of standard deviation one; the trajectory begins with it times the first sigma
        uncond : (B, N, D) tokens that guidance leads away from
        vector : (B, C) sizes; None: those of the image, not cropped
        start : (B, 3, H, W) in [0, 1], the image that ``sdedit`` starts from, of any size

        Raises BadRequest (``generator.preset``, ``generator.features``, ``generator.inputs``, ``generator.start``).
        """
        if preset_of(preset).needs_start != (start is not None):
            raise BadRequest(
                f"expected an image to start from with the preset sdedit, and with no other, got {preset} "
                f"{'without' if start is None else 'with'} one: choose the preset by what there is",
                code="generator.start",
            )
        table = plan(preset, steps)
        return self.run(table, self.inputs(table, tokens_BND, seed, noise, uncond, vector, start))

    def inputs(
        self,
        table: SamplerPlan,
        tokens_BND: Tensor,
        seed: int = 0,
        noise: Tensor | None = None,
        uncond: Tensor | None = None,
        vector: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Inputs:
        """What ``run`` needs, on the device. Raises BadRequest (``generator.features``, ``generator.inputs``)."""
        n, n_tokens, dim = tokens_BND.shape if tokens_BND.ndim == 3 else (0, 0, 0)
        if dim != self.layout.token_dim:
            raise BadRequest(
                f"expected tokens of shape (B, N, {self.layout.token_dim}), got {tuple(tokens_BND.shape)}: choose the"
                " generator that was trained on this encoder's tokens",
                code="generator.features",
            )
        generator = torch.Generator().manual_seed(seed)  # of the host, so that a seed means the same on every device
        if noise is None:
            edge = self.size_px // FACTOR
            noise = draw_noise(generator, (self.layout.channels, edge, edge), _LARGEST).expand(n, -1, -1, -1)
        if uncond is None and any(table.guided):
            uncond = draw_uncond(generator, n_tokens, dim).expand(n, -1, -1)
        _require("noise", noise, (n, self.layout.channels, None, None))
        _require("uncond", uncond, tuple(tokens_BND.shape))
        _require("vector", vector, (n, self.layout.vector_dim))
        latent_size = (noise.shape[2], noise.shape[3])
        if vector is None:
            height_px, width_px = (FACTOR * cells for cells in latent_size)
            vector = size_vector(height_px, width_px, self.layout.vector_dim).expand(n, -1)
        moved, dtype = Placement(str(self.device)).moved, self.unet.dtype
        return Inputs(
            moved(noise).float(),
            moved(tokens_BND).to(dtype),
            moved(vector).to(dtype),
            None if uncond is None else moved(uncond).to(dtype),
            None if start is None else self.start_of(start, latent_size),
        )

    def start_of(self, image_B3HW: Tensor, latent_size: tuple[int, int]) -> Tensor:
        """The latents (B, C, H / 8, W / 8) whose image this is, resized to them."""
        size = (FACTOR * latent_size[0], FACTOR * latent_size[1])
        image = Placement(str(self.device)).moved(image_B3HW).float()
        resized = functional.interpolate(image, size=size, mode="bilinear", antialias=True)
        return encode(self.vae, (resized - _SHIFT) / _GAIN)

    @torch.inference_mode()
    def versions(self, table: SamplerPlan, inputs: Inputs, *, sparing: bool = False) -> Iterator[Tensor]:
        """Images (B, 3, H, W) in [0, 1]: a preview after the first steps if there are several, then the result.

        An engine that runs a whole loop at once runs the first steps twice.

        sparing : the two evaluations of a guided step come one after the other, which takes less memory
        """
        after = [step for step in (preview_after(table.steps), table.steps) if step]
        if self._whole is not _call_by_call:
            yield from (self._run(_Part(table, _given_in(inputs), step, sparing), inputs) for step in after)
            return
        for step, latent in zip(after, self.estimates(table, inputs, after=after, sparing=sparing), strict=True):
            yield self.shown(latent, preview=step < table.steps)

    def run(self, table: SamplerPlan, inputs: Inputs) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of what is on the device, as the engine runs a whole loop."""
        return self._run(_Part(table, _given_in(inputs), table.steps), inputs)

    def _run(self, part: _Part, inputs: Inputs) -> Tensor:
        if part not in self._loops:
            self._loops[part] = self._whole(self._loop(part))
        return self._loops[part](*(tensor for tensor in inputs if tensor is not None))

    def _loop(self, part: _Part) -> Loop:
        """Sampler, U-Net and decoder as one function of tensors."""

        def sample(*tensors: Tensor) -> Tensor:
            inputs = Inputs(**dict(zip(part.given, tensors, strict=True)))
            [latent] = self.estimates(part.table, inputs, after=(part.steps,), sparing=part.sparing)
            return self.shown(latent, preview=part.steps < part.table.steps)

        return sample

    def latents(self, table: SamplerPlan, inputs: Inputs) -> Tensor:
        """Clean latents (B, C, H / 8, W / 8)."""
        [latent] = self.estimates(table, inputs, after=(table.steps,))
        return latent

    def estimates(
        self, table: SamplerPlan, inputs: Inputs, *, after: Collection[int], sparing: bool = False
    ) -> Iterator[Tensor]:
        """Clean latents as estimated after these numbers of steps, each once it is known: previews, and the result.

        sparing : see ``versions``
        """
        n = len(inputs.tokens_BND)
        tokens = inputs.tokens_BND
        both = self.keys_values(tokens if inputs.uncond_BND is None else torch.cat([inputs.uncond_BND, tokens]))
        vector_both = torch.cat([inputs.vector_BC, inputs.vector_BC])

        def predict(latent_BCHW: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
            latent = latent_BCHW.to(tokens.dtype)
            timestep_B = torch.full(((1 + (guided and not sparing)) * n,), timestep, device=latent.device)
            if not guided or sparing:
                each = both.chunk(2) if guided else (both[-n:],)
                return tuple(self.denoiser(latent, timestep_B, one, inputs.vector_BC) for one in each)
            return self.denoiser(torch.cat([latent, latent]), timestep_B, both, vector_both).chunk(2)

        return table.estimates(predict, inputs.noise_BCHW, inputs.start_BCHW, after=after)

    def shown(self, latent_BCHW: Tensor, *, preview: bool = False) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of clean latents; a preview's by its own decoder if there is one."""
        decoder = self.preview if preview and self.preview is not None else self.decoder
        return (decoder(latent_BCHW).float() * _GAIN + _SHIFT).clamp(0.0, 1.0)


_LARGEST = float(sigma_at(999))


def _call_by_call(loop: Loop) -> Loop:
    return loop


def _require(name: str, given: Tensor | None, shape: tuple[int | None, ...]) -> None:
    """None stands for any number. Raises BadRequest (``generator.inputs``)."""
    if given is None:
        return
    fits = given.ndim == len(shape) and all(want in (None, n) for want, n in zip(shape, given.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise BadRequest(f"expected {name} of shape ({wanted}), got {tuple(given.shape)}", code="generator.inputs")
