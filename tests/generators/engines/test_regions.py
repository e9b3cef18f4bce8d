"""Blocks that a network repeats are compiled once for each form, and compute what they computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsight.generators.engines.regions import with_compiled_blocks
from mindsight.generators.unclip.sdxl.cross_attention import KeysValues
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet

LAYOUT = UnetLayout(widths=(32, 32), depths=(0, 3), head_dim=16, resnets=1, token_dim=24, vector_dim=16)


class Counting:
    """A compiler that runs what it is given; each graph once."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(2)
    return build_unet(LAYOUT).eval().requires_grad_(False)


def drawn(keys_values: KeysValues) -> tuple[torch.Tensor, ...]:
    return (torch.randn(1, 4, 8, 8), torch.full((1,), 300.0), keys_values(torch.randn(1, 5, 24)), torch.randn(1, 16))


@pytest.mark.slow
@torch.inference_mode()
def test_what_is_alike_is_compiled_once(unet: Any) -> None:
    keys_values, denoiser, counting = KeysValues(unet), Denoiser(unet), Counting()
    compiled = with_compiled_blocks(denoiser, counting)
    inputs = drawn(keys_values)
    assert torch.equal(compiled(*inputs), denoiser(*inputs))
    # one transformer block stands for 3 + 6 + 3 of them, a residual block for all of its widths and size of image;
    # those in the middle divide by a one of their own, an integer
    attended = [graph for graph in counting.graphs if "scaled_dot_product_attention" in graph.code]
    assert len(attended) == 1
    assert len(counting.graphs) - 1 == len({(32, 32, 8), (32, 32, 4), (64, 32, 4), (64, 32, 8), "middle"})
    n = len(counting.graphs)
    compiled(*inputs)
    assert len(counting.graphs) == n
    assert {id(weight) for weight in compiled.parameters()} == {id(weight) for weight in denoiser.parameters()}


def test_a_network_without_repeated_blocks_is_compiled_as_a_whole() -> None:
    counting = Counting()
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.SiLU()).requires_grad_(False)
    compiled = with_compiled_blocks(network, counting)
    for n, batch in enumerate((2, 5, 2), 1):
        given = torch.randn(batch, 3)
        assert torch.equal(compiled(given), network(given))
        assert len(counting.graphs) == min(n, 2)  # one for each size, not one for all
