"""The optimiser's steps of a pretraining: gradients of a batch, shared among processes; figures of held-out images.

Knows nothing of the command or of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindsight.decoders.mindeye2 import MindEye2, losses
from mindsight.errors import BadRequest, MindsightError
from training.course.half_memory import LARGE, HalfMemoryAdamW
from training.course.optimiser import AdamW, Optimiser
from training.course.schedule import one_cycle
from training.course.team import Team
from training.pretraining.ahead import Ahead
from training.pretraining.batches import Batches, Part
from training.pretraining.config import Config
from training.pretraining.held_out import HeldOut, measure, total
from training.pretraining.objective import Draws, part_losses

DECAY = 1e-2
DEAD = ("backbone.mixer_blocks1.",)
"""Weights that no output depends on (``Backbone``): they stay as they are."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a run learns from and is measured on, by subject in the order of the ridge layers."""

    batches: Batches
    validation: Sequence[HeldOut]
    test: Sequence[HeldOut]


class Pretraining:
    """One process's part of a run. ``step`` is how many steps the optimiser has made."""

    def __init__(self, config: Config, model: MindEye2, material: Material, team: Team) -> None:
        size = config.part or config.batch
        parts, left_over = divmod(config.batch, size)
        if left_over or parts % team.size:
            raise BadRequest(
                f"expected a batch of whole parts, as many for each of {team.size} processes, got batch {config.batch}"
                f" and part {size}: choose multiples",
                code="training.config",
            )
        self.config, self.model, self.team = config, model, team
        self._material, self._parts = material, parts
        self._ahead = Ahead(material.batches.part)
        self._dtype: torch.dtype = getattr(torch, config.precision)
        self.trained = trained_weights(model, config.frozen)
        self._untrained = place(model, team.device, half=config.memory == "half")
        model.train()
        self.optimiser = make_optimiser(self.trained, config.memory)
        self._mixed_steps = int(config.mixed * config.steps)
        self._temperatures = losses.temperatures(max(1, config.steps - self._mixed_steps)).tolist()
        self.step = 0

    def gradients(self) -> dict[str, Tensor]:
        """The mean losses of the next batch; its gradients are then those of the weights, the same in all processes."""
        for weight in self.trained.values():
            weight.grad = None
        own = self._parts // self.team.size
        first = self.step * self._parts + self.team.rank * own
        sums: dict[str, Tensor] = {}
        for number in range(first, first + own):
            found = self._losses(number)
            (found["loss"] / own).backward()  # type: ignore[no-untyped-call]
            for name, value in found.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / own
        gradients = [weight.grad for weight in self.trained.values() if weight.grad is not None]
        self.team.average([*sums.values(), *gradients])
        return sums

    def advance(self) -> dict[str, Any]:
        """Make one step; its figures. Raises MindsightError (``training.diverged``)."""
        config = self.config
        rate = one_cycle(config.learning_rate, self.step, config.steps, config.warm_up)
        sums = self.gradients()
        norm = nn.utils.get_total_norm([w.grad for w in self.trained.values() if w.grad is not None])
        figures: dict[str, Any] = {name: float(value) for name, value in sums.items()}
        figures |= {"gradient_norm": float(norm), "learning_rate": rate}
        if not all(math.isfinite(figure) for figure in figures.values()):
            raise MindsightError(
                f"expected a finite loss and gradient, got {figures['loss']} and {figures['gradient_norm']} at step"
                f" {self.step + 1}: lower learning_rate in a run of its own, or set precision to float32",
                code="training.diverged",
            )
        self.optimiser.step(rate)
        self.step += 1
        if self.team.leads and (self.step % config.evaluate_every == 0 or self.step == config.steps):
            figures["held_out"] = self.held_out(self._material.validation)
        return figures

    def held_out(self, subjects: Sequence[HeldOut]) -> dict[str, Any]:
        """Retrieval of all subjects together and of each, as JSON."""
        found = measure(self.model, subjects, self._material.batches.targets, self.team.device, self._dtype)
        return {"all": total(found).to_json(), **{name: each.to_json() for name, each in found.items()}}

    def test_figures(self) -> dict[str, Any]:
        """``held_out`` of the test part."""
        return self.held_out(self._material.test)

    def whole(self) -> dict[str, Tensor]:
        """The model's weights in float32."""
        return {**self._untrained, **{name: self.optimiser.whole(name) for name in self.trained}}

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to continue, beside the number of steps."""
        return self.optimiser.state()

    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        """Continue after ``step`` with what ``state`` gave."""
        self.step = step
        self.optimiser.restore(step, held)

    def _after(self, number: int) -> int | None:
        """The part that this process takes after one."""
        own, first = self._parts // self.team.size, self.step * self._parts
        if number + 1 < first + (self.team.rank + 1) * own:
            return number + 1
        return first + self._parts + self.team.rank * own if self.step + 1 < self.config.steps else None

    def _losses(self, number: int) -> dict[str, Tensor]:
        device = self.team.device
        part = on_device(self._ahead.part(number, self._after(number)), device)
        mixed = self.step < self._mixed_steps
        draws = Draws.of(part, self.config.seed, mixed, device)
        temperature = self._temperatures[max(0, self.step - self._mixed_steps)]
        with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
            drawn = np.random.default_rng([self.config.seed, number, 54]).integers(1 << 32)
            torch.manual_seed(int(drawn))  # of dropout
            return part_losses(self.model, part, draws, temperature, self._dtype)


def trained_weights(model: nn.Module, frozen: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; all others then need no gradient.

    frozen : beginnings of names, ``backbone.`` and all below it for example

    Raises BadRequest (``training.config``) for a beginning that no parameter has, or if nothing is left.
    """
    names = [name for name, _ in model.named_parameters()]
    if unknown := [start for start in frozen if not any(name.startswith(start) for name in names)]:
        raise BadRequest(
            f"expected beginnings of the names of parameters in frozen, got {unknown[0]!r}, which none has: there are"
            f" {', '.join(sorted({'.'.join(name.split('.')[:2]) for name in names}))}",
            code="training.config",
        )
    trained = {}
    for name, weight in model.named_parameters():
        weight.requires_grad_(not name.startswith((*DEAD, *frozen)))
        if weight.requires_grad:
            trained[name] = weight
    if not trained:
        raise BadRequest("expected parameters to train, all are frozen: name fewer", code="training.config")
    return trained


def make_optimiser(trained: Mapping[str, nn.Parameter], memory: str) -> Optimiser:
    """Weights of ridge layers decay with their biases; of all others those without "bias" in their name, gains and
    queries among them, as in the reference.
    """
    decayed = {name for name in trained if name.startswith("ridge.") or "bias" not in name}
    kind = HalfMemoryAdamW if memory == "half" else AdamW
    return kind(trained, decayed, DECAY)


def place(model: MindEye2, device: str, *, half: bool) -> dict[str, Tensor]:
    """Move the model, dead weights apart, which stay on the host; what is not trained, by name, as it is exported.

    half : keep large weights that are not trained in bfloat16 there; layers of the prior compute activations again
    """
    kept = {name: weight.data for name, weight in model.named_parameters() if not weight.requires_grad}
    for name, weight in model.named_parameters():
        if half and not weight.requires_grad and weight.numel() >= LARGE and not name.startswith(DEAD):
            weight.data = weight.data.bfloat16()
    for name, part in model.named_children():
        for own, module in part.named_children():
            if f"{name}.{own}." not in DEAD:
                module.to(device)
    if half and model.prior is not None:
        model.prior.net.causal_transformer.recomputes = True
    return kept


def on_device(part: Part, device: str) -> Part:
    """The same part there."""
    if device == "cpu":
        return part
    moved: Callable[[Tensor], Tensor] = lambda tensor: tensor.to(device, non_blocking=True)  # noqa: E731
    lowlevel = None if part.lowlevel is None else type(part.lowlevel)(*map(moved, part.lowlevel))
    return Part(part.number, tuple(map(moved, part.betas)), part.images, moved(part.tokens_BND), lowlevel)
