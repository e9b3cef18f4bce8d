"""The unCLIP of gpu.py's sections: random weights of the given sizes, and the operations of its networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gpu_bench import Bench, Sizes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mindsight.features import FeatureSpace
from mindsight.generators.engines.base import Network, NetworkInput
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.generators.unclip.sdxl.pipeline import FACTOR, Unclip
from mindsight.generators.unclip.sdxl.unet import build_unet
from mindsight.generators.unclip.sdxl.vae import LatentDecoder, build_vae


def make_generator(bench: Bench) -> UnclipGenerator:
    """As ``load_unclip`` places it: the U-Net in half precision, the autoencoder in float32, both channels-last."""
    sizes = bench.sizes
    with bench.device:
        unet, vae = build_unet(sizes.unet).to(bench.dtype), build_vae(sizes.vae)
    for network in (unet, vae):
        network.eval().requires_grad_(False)
        if bench.on_card:
            network.to(memory_format=torch.channels_last)
    space = FeatureSpace("tokens", (sizes.layout.tokens, sizes.unet.token_dim))
    return UnclipGenerator(Unclip(unet, vae, sizes.unet), space, "random")


def make_tiny(bench: Bench) -> LatentDecoder:
    from diffusers import AutoencoderTiny

    with bench.device:
        tiny = AutoencoderTiny(**bench.sizes.tiny).to(bench.dtype)
    if bench.on_card:
        tiny.to(memory_format=torch.channels_last)
    return LatentDecoder(tiny.eval().requires_grad_(False))


def with_decoder(networks: Sequence[Network], decoder: nn.Module) -> tuple[Network, ...]:
    """The same networks with another decoder of latents."""
    return tuple(Network(one.name, decoder, one.inputs) if one.name == "decoder" else one for one in networks)


def operations(sizes: Sizes) -> dict[str, float]:
    """Name and size -> multiplications and additions for one image, counted without a card; and the U-Net's weights."""
    from diffusers import AutoencoderTiny

    with torch.device("meta"):
        unclip = Unclip(build_unet(sizes.unet), build_vae(sizes.vae), sizes.unet)
        tiny = LatentDecoder(AutoencoderTiny(**sizes.tiny))
        tokens = torch.empty(1, sizes.layout.tokens, sizes.unet.token_dim)
        vector, timestep = torch.empty(1, sizes.unet.vector_dim), torch.empty(1)
    found = {"weights": float(sum(one.numel() for one in unclip.modules.denoiser.parameters()))}
    found["keys and values"] = counted(unclip.modules.keys_values, tokens)
    keys_values = unclip.modules.keys_values(tokens)
    for px in sizes.pixels:
        latent = torch.empty(1, sizes.unet.channels, px // FACTOR, px // FACTOR, device="meta")
        found[f"{px} px, step"] = counted(unclip.modules.denoiser, latent, timestep, keys_values, vector)
        found[f"{px} px, full decoder"] = counted(unclip.modules.decoder, latent)
        found[f"{px} px, tiny decoder"] = counted(tiny, latent)
    return found


@torch.inference_mode()
def counted(network: nn.Module, *inputs: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return float(counter.get_total_flops())


def example(bench: Bench, inputs: Sequence[NetworkInput], batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Random inputs of a network, drawn on the device."""
    drawn = (torch.randn(batch, *one.shape, device=bench.device).to(one.dtype) for one in inputs)
    return tuple(500.0 + tensor if not one.shape else tensor for tensor, one in zip(drawn, inputs, strict=True))
