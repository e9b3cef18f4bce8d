"""Low-rank changes of a network's layers (Hu et al. 2021, arXiv 2106.09685), without a change of the network.

Knows nothing of distillation. The product of two thin matrices is added to what a layer gives, as the layer gives it;
which pair, or none, can be changed between evaluations, so that a frozen network serves as teacher, student and target.

Letters: R the rank, I inputs of a layer, O its outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
)
"""Layers of a U-Net that the published few-step LoRAs change (Luo et al. 2023, arXiv 2311.05556)."""

Factors = Mapping[str, Tensor]
"""``{layer}.down`` (R, I, ...) and ``{layer}.up`` (O, R) of every changed layer."""


class LowRank:
    """The changed layers of a network.

    active : the factors in use; None: the network as it is
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers: dict[str, nn.Linear | nn.Conv2d] = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and _is_target(name)
        }
        self.active: Factors | None = None
        for name, layer in self.layers.items():
            layer.register_forward_hook(self._added_to(name))

    def draw(self, rank: int, seed: int) -> dict[str, nn.Parameter]:
        """New factors, float32, which change nothing yet: ``up`` is zero."""
        device = next(iter(self.layers.values())).weight.device
        generator, factors = torch.Generator().manual_seed(seed), {}
        for name, layer in self.layers.items():
            outputs, *inputs = layer.weight.shape
            bound = 1.0 / math.sqrt(math.prod(inputs))
            down = torch.empty(rank, *inputs)
            if device.type != "meta":
                down.uniform_(-bound, bound, generator=generator)
            factors[f"{name}.down"] = nn.Parameter(down.to(device))
            factors[f"{name}.up"] = nn.Parameter(torch.zeros(outputs, rank, device=device))
        return factors

    @contextmanager
    def using(self, factors: Factors | None) -> Iterator[None]:
        before, self.active = self.active, factors
        try:
            yield
        finally:
            self.active = before

    def changes(self, factors: Factors) -> Iterator[tuple[str, Tensor]]:
        """Name of each changed weight, and what to add to it."""
        for name, layer in self.layers.items():
            change = factors[f"{name}.up"].float() @ factors[f"{name}.down"].float().flatten(1)
            yield f"{name}.weight", change.view(layer.weight.shape)

    def _added_to(self, name: str) -> Any:
        def hook(layer: nn.Linear | nn.Conv2d, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self.active is None:
                return output
            down, up = (self.active[f"{name}.{half}"].to(given[0].dtype) for half in ("down", "up"))
            if isinstance(layer, nn.Conv2d):
                thin = functional.conv2d(given[0], down, stride=layer.stride, padding=layer.padding)
                return output + functional.conv2d(thin, up[:, :, None, None])
            return output + functional.linear(functional.linear(given[0], down), up)

        return hook


def _is_target(name: str) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in TARGETS)
