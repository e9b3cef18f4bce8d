"""The U-Net at its published size, without data, and at a small one."""

from __future__ import annotations

import torch

from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet

SMALL = UnetLayout(widths=(32, 64), depths=(0, 1), head_dim=16, resnets=1, token_dim=24, vector_dim=40)


def test_the_released_unclip_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        unet = build_unet(UnetLayout())
    assert sum(weight.numel() for weight in unet.parameters()) == 2_501_272_324


def test_each_input_changes_the_prediction() -> None:
    torch.manual_seed(0)
    unet = build_unet(SMALL).eval().requires_grad_(False)
    denoiser, keys_values = Denoiser(unet), KeysValues(unet)(torch.randn(2, 5, 24))
    inputs = [torch.randn(2, 4, 8, 8), torch.tensor([500.0, 20.0]), keys_values, torch.randn(2, 40)]
    prediction = denoiser(*inputs)
    assert prediction.shape == (2, 4, 8, 8)
    for index, given in enumerate(inputs):
        changed = denoiser(*inputs[:index], given.roll(1, 0), *inputs[index + 1 :])
        assert (changed - prediction).abs().max() > 1e-4
