"""SDXL in small, as engines take it: the U-Net with its three resolutions, and both decoders of latents."""

from __future__ import annotations

import torch
from torch import nn

from mindsight.generators.engines.base import Network, NetworkInput
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import LatentDecoder, VaeLayout, build_vae

LAYOUT = UnetLayout(widths=(32, 64, 64), depths=(0, 0, 1), head_dim=16, resnets=1, token_dim=24, vector_dim=16)
TOKENS = (6, LAYOUT.token_dim)
LATENT = (LAYOUT.channels, 8, 8)


def denoiser(dtype: torch.dtype = torch.float32, layout: UnetLayout = LAYOUT) -> Network:
    torch.manual_seed(4)
    return denoiser_of(Denoiser(build_unet(layout)).requires_grad_(False).to(dtype), layout)


def denoiser_of(
    module: nn.Module,
    layout: UnetLayout,
    edge: int = LATENT[1],
    n_tokens: int = TOKENS[0],
) -> Network:
    dtype = next(module.parameters()).dtype
    inputs = (
        NetworkInput("latent_BCHW", (layout.channels, edge, edge), dtype),
        NetworkInput("timestep_B", (), torch.float32),
        NetworkInput("tokens_BND", (n_tokens, layout.token_dim), dtype),
        NetworkInput("vector_BC", (layout.vector_dim,), dtype),
    )
    return Network("denoiser", module, inputs)


def decoder(dtype: torch.dtype = torch.float32) -> Network:
    """The full one."""
    torch.manual_seed(5)
    return _decoder("decoder", build_vae(VaeLayout(widths=(32, 64), resnets=1)), dtype)


def preview(dtype: torch.dtype = torch.float32) -> Network:
    """The tiny one."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(6)
    widths, blocks = (16, 16), (1, 1)
    vae = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    )
    return _decoder("preview", vae, dtype)


def _decoder(name: str, vae: nn.Module, dtype: torch.dtype) -> Network:
    module = LatentDecoder(vae).eval().requires_grad_(False).to(dtype)
    return Network(name, module, (NetworkInput("latent_BCHW", LATENT, torch.float32),))
