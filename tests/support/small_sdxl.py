"""SDXL in small, as engines take it: the U-Net with its three resolutions, its keys and values, both decoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mindsight.generators.engines.base import Network, NetworkInput
from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import LatentDecoder, VaeLayout, build_vae

LAYOUT = UnetLayout(widths=(32, 64, 64), depths=(0, 0, 1), head_dim=16, resnets=1, token_dim=24, vector_dim=16)
TOKENS = (6, LAYOUT.token_dim)
LATENT = (LAYOUT.channels, 8, 8)


def denoiser(dtype: torch.dtype = torch.float32, layout: UnetLayout = LAYOUT) -> Network:
    return unet_of(_unet(layout).to(dtype), layout)[0]


def keys_values() -> Network:
    """Of the same U-Net as ``denoiser``."""
    return unet_of(_unet(LAYOUT), LAYOUT)[1]


def unet_of(
    unet: nn.Module, layout: UnetLayout, edge: int = LATENT[1], n_tokens: int = TOKENS[0]
) -> tuple[Network, Network]:
    """The denoiser, and what makes its keys and values."""
    module, dtype = KeysValues(unet), next(unet.parameters()).dtype
    inputs = (
        NetworkInput("latent_BCHW", (layout.channels, edge, edge), dtype),
        NetworkInput("timestep_B", (), torch.float32),
        NetworkInput("keys_values_BNK", (n_tokens, len(module.weight_KD)), dtype),
        NetworkInput("vector_BC", (layout.vector_dim,), dtype),
    )
    tokens = (NetworkInput("tokens_BND", (n_tokens, layout.token_dim), dtype),)
    return Network("denoiser", Denoiser(unet), inputs), Network("keys_values", module, tokens)


def _unet(layout: UnetLayout) -> nn.Module:
    torch.manual_seed(4)
    unet: nn.Module = build_unet(layout).requires_grad_(False)
    return unet


class _Transformer(nn.Module):
    """One of the U-Net's transformers."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, latent_BCHW: Tensor, tokens_BND: Tensor) -> Tensor:
        (out,) = self.block(latent_BCHW, encoder_hidden_states=tokens_BND, return_dict=False)
        return out


def transformer() -> Network:
    """What of a U-Net is hard to export, and most of what it computes, without its many layers."""
    from diffusers import Transformer2DModel

    torch.manual_seed(7)
    block = Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, cross_attention_dim=LAYOUT.token_dim,
        use_linear_projection=True,
    )  # fmt: skip
    inputs = (NetworkInput("latent_BCHW", (32, 8, 8), torch.float32), NetworkInput("tokens_BND", TOKENS, torch.float32))
    return Network("transformer", _Transformer(block).eval().requires_grad_(False), inputs)


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
