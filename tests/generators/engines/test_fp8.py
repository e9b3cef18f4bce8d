"""Products in 8 bits: near the exact ones, within what the format rounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mindsight.errors import BadRequest
from mindsight.generators.engines import registry
from mindsight.generators.engines.fp8 import E4M3, Linear8, in_8_bits
from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet
from support import small_sdxl

LAYOUT = UnetLayout(widths=(32, 64), depths=(0, 2), head_dim=16, resnets=1, token_dim=24, vector_dim=16)
# a number is rounded to three bits behind the first, by at most 2^-4 of itself
ROUNDED = 2.0**-4 / 3.0**0.5


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@torch.inference_mode()
def test_a_product_is_off_by_the_rounding_of_its_factors() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 128)
    rows = torch.randn(3, 7, 256) * torch.logspace(-2, 2, 7)[:, None]  # each row has its own scale
    found, expected = Linear8(layer)(rows), layer(rows)
    assert found.shape == expected.shape
    for row in range(7):
        error = relative(found[:, row] - layer.bias, expected[:, row] - layer.bias)
        assert 0.2 * ROUNDED < error < 2.0**0.5 * ROUNDED + 2.0**-8  # both factors, and the result in bfloat16
    assert Linear8(layer)(torch.zeros(2, 256)).isfinite().all()


@torch.inference_mode()
def test_only_the_transformers_products_change() -> None:
    torch.manual_seed(0)
    unet = build_unet(LAYOUT).eval().requires_grad_(False)
    keys_values, denoiser = KeysValues(unet), Denoiser(unet)
    narrow = in_8_bits(denoiser)
    n_blocks = 2 + 4 + 2
    changed = [module for module in narrow.modules() if isinstance(module, Linear8)]
    assert len(changed) == n_blocks * (4 + 2 + 2)  # of the image's attention, the tokens' and the feed-forward
    assert not any(isinstance(module, Linear8) for module in denoiser.modules())
    assert {one.weight_CD.dtype for one in changed} == {E4M3}
    inputs = (torch.randn(1, 4, 8, 8), torch.full((1,), 300.0), keys_values(torch.randn(1, 5, 24)), torch.randn(1, 16))
    assert 0.0 < relative(narrow(*inputs), denoiser(*inputs)) < 0.05


def test_without_a_card_it_is_refused_in_one_line() -> None:
    for name in ("fp8", "graphed"):
        with pytest.raises(BadRequest, match=f"on a CUDA card for the engine {name}, got cpu: use eager"):
            registry.in_memory(name, [small_sdxl.preview()])


def test_a_card_without_8_bits_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from mindsight.generators.engines import fp8

    monkeypatch.setattr(fp8, "require_card", lambda name, networks: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(BadRequest, match=r"compute capability 8\.9 or later.* got 8\.6: use compiled"):
        registry.in_memory("fp8", [small_sdxl.preview()])
