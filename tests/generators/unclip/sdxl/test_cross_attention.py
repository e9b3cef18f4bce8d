"""Keys and values that are computed once give what the U-Net gives that computes them in every step."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet
from support.tolerance import network

LAYOUT = UnetLayout(widths=(32, 64), depths=(1, 2), head_dim=16, resnets=1, token_dim=24, vector_dim=40)
BLOCKS = {32: 1 + 2, 64: 2 + 4 + 2}  # width -> transformer blocks on the way down, on the way up and in the middle
TOLERANCE = network(9 * 128, 40)  # as the U-Net itself: one product over all blocks may sum in another order


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(3)
    return build_unet(LAYOUT).eval().requires_grad_(False)


def test_they_are_those_of_diffusers_in_every_step(unet: Any) -> None:
    plain = copy.deepcopy(unet)
    keys_values, denoiser = KeysValues(unet), Denoiser(unet)
    tokens, vector = torch.randn(2, 5, 24), torch.randn(2, 40)
    once = keys_values(tokens)
    assert once.shape == (2, 5, 2 * sum(width * n for width, n in BLOCKS.items()))
    for timestep in (20.0, 500.0):
        latent, timesteps = torch.randn(2, 4, 8, 8), torch.full((2,), timestep)
        expected = plain(latent, timesteps, tokens, class_labels=vector).sample
        torch.testing.assert_close(denoiser(latent, timesteps, once, vector), expected, **TOLERANCE)
        again = unet(latent, timesteps, tokens, class_labels=vector).sample  # which still takes tokens
        torch.testing.assert_close(again, expected, **TOLERANCE)


def test_weights_exist_once(unet: Any) -> None:
    unet = copy.deepcopy(unet)
    keys_values, denoiser = KeysValues(unet), Denoiser(unet)
    places = {weight.untyped_storage().data_ptr() for weight in unet.parameters()}
    assert {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()} < places
    assert keys_values.weight_KD.untyped_storage().data_ptr() in places
    n_own = sum(weight.numel() for module in (keys_values, denoiser) for weight in module.parameters())
    assert n_own == sum(weight.numel() for weight in unet.parameters())
    last = unet.mid_block.attentions[0].transformer_blocks[1].attn2
    with torch.no_grad():
        last.to_v.weight.zero_()  # as training does, in place
    assert keys_values(torch.randn(1, 5, 24))[..., -64:].abs().max() == 0.0
