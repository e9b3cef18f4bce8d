"""Keys and values of cross-attention, computed once for an image: its tokens are the same in every step of a sampler.

Knows nothing of samplers. The keys and values of all transformer blocks lie side by side in one tensor, so that an
engine takes them as one input of the U-Net, and makes them with one matrix product. Letters: B images, N tokens of D
numbers, K keys and values of all blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindsight.weights.sharing import with_same_weights

PROJECTIONS = ("to_k", "to_v")  # diffusers' names for the layers of a block that read the tokens


class KeysValues(nn.Module):
    """Tokens to the keys and values of every transformer block, in the order of the U-Net's modules.

    The U-Net's own layers read the same memory from then on: these weights exist once.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        layers = [getattr(block.attn2, name) for block in _blocks(unet).values() for name in PROJECTIONS]
        self.weight_KD = nn.Parameter(torch.cat([one.weight.detach() for one in layers]), requires_grad=False)
        for one, part in zip(layers, torch.split(self.weight_KD, [len(one.weight) for one in layers]), strict=True):
            one.weight.data = part

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, K)."""
        return functional.linear(tokens_BND, self.weight_KD)


def reading_keys_values(unet: Any) -> Any:
    """The same U-Net, its weights in the same memory, which is given what ``KeysValues`` makes of the tokens."""
    reader = with_same_weights(unet)
    start = 0
    for path, block in _blocks(reader).items():
        widths = [getattr(block.attn2, name).out_features for name in PROJECTIONS]
        edge = 0
        for name, width in zip(PROJECTIONS, widths, strict=True):
            setattr(block.attn2, name, _Part(edge, edge + width))
            edge += width
        reader.set_submodule(path, _OfBlock(block, _Part(start, start + edge)))
        start += edge
    return reader


class _Part(nn.Module):
    """A slice of the last axis."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, keys_values_BNK: Tensor) -> Tensor:
        return keys_values_BNK[..., self.start : self.stop]


class _OfBlock(nn.Module):
    """A transformer block, given its part of all keys and values. What is inside is alike for all blocks of one width,
    so that it is compiled once.
    """

    def __init__(self, block: nn.Module, part: _Part) -> None:
        super().__init__()
        self.block, self.part = block, part

    def forward(self, image_BSC: Tensor, *, encoder_hidden_states: Tensor, **others: Any) -> Tensor:
        attended: Tensor = self.block(image_BSC, encoder_hidden_states=self.part(encoder_hidden_states), **others)
        return attended


def _blocks(unet: nn.Module) -> dict[str, Any]:
    """Path -> each transformer block of diffusers' U-Net; ``attn1`` attends to the image, ``attn2`` to the tokens."""
    return {path: module for path, module in unet.named_modules() if hasattr(module, "attn2")}
