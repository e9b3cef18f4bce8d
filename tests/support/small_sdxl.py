"""SDXL in small, as engines take it: the U-Net with its three resolutions, and both decoders of latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mindsight.generators.engines.base import Network, NetworkInput
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet

LAYOUT = UnetLayout(widths=(32, 64, 64), depths=(0, 1, 1), head_dim=16, resnets=1, token_dim=24, vector_dim=16)
TOKENS = (6, LAYOUT.token_dim)
LATENT = (LAYOUT.channels, 8, 8)
SCALE = 0.13025


class Decoder(nn.Module):
    """A latent in the U-Net's scale to pixels in [-1, 1]."""

    def __init__(self, vae: Any, scale: float) -> None:
        super().__init__()
        self.vae, self.scale = vae, scale

    def forward(self, latent_BCHW: Tensor) -> Tensor:
        pixels: Tensor = self.vae.decode(latent_BCHW / self.scale, return_dict=False)[0]
        return pixels


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
    from diffusers import AutoencoderKL

    torch.manual_seed(5)
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        latent_channels=LATENT[0],
    )
    return _decoder("decoder", Decoder(vae, SCALE), dtype)


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
    return _decoder("preview", Decoder(vae, 1.0), dtype)


def _decoder(name: str, module: nn.Module, dtype: torch.dtype) -> Network:
    return Network(name, module.eval().requires_grad_(False).to(dtype), (NetworkInput("latent_BCHW", LATENT, dtype),))
