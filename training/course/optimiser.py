"""AdamW (Loshchilov & Hutter 2019) with a state that can be written and read by the names of weights.

Knows nothing of what is trained. ``half_memory`` has the same steps in less memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

BETAS, EPSILON = (0.9, 0.999), 1e-8
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimiser(Protocol):
    """Steps along the gradients that weights have."""

    def step(self, rate: float) -> None:
        """Change the weights; gradients stay."""

    def state(self) -> dict[str, Tensor]:
        """The weights themselves as ``trained.{name}``, and all else that a later process needs."""

    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        """Continue after ``step`` with what ``state`` gave."""

    def whole(self, name: str) -> Tensor:
        """A weight in float32."""


class AdamW:
    """torch's own, fused.

    trained : name -> weight; decayed : names of those that decay by ``decay`` times the rate
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], decayed: set[str], decay: float) -> None:
        self._trained = trained
        groups = [
            {"params": [weight for name, weight in trained.items() if name in decayed], "weight_decay": decay},
            {"params": [weight for name, weight in trained.items() if name not in decayed], "weight_decay": 0.0},
        ]
        used = [group for group in groups if group["params"]]
        self._torch = torch.optim.AdamW(used, lr=0.0, betas=BETAS, eps=EPSILON, fused=True)

    def step(self, rate: float) -> None:
        for group in self._torch.param_groups:
            group["lr"] = rate
        self._torch.step()

    def state(self) -> dict[str, Tensor]:
        held: dict[str, Tensor] = {}
        for name, weight in self._trained.items():
            held[f"trained.{name}"] = weight
            for moment in _MOMENTS:
                held[f"{moment}.{name}"] = self._torch.state[weight][moment]
        return held

    @torch.no_grad()
    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        for name, weight in self._trained.items():
            weight.copy_(held[f"trained.{name}"])
            self._torch.state[weight] = {
                "step": torch.tensor(float(step), device=weight.device),
                # in the weight's own memory layout, which a card's networks change
                **{moment: torch.empty_like(weight).copy_(held[f"{moment}.{name}"]) for moment in _MOMENTS},
            }

    def whole(self, name: str) -> Tensor:
        return self._trained[name].data
