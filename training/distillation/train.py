"""The optimiser's steps: gradients of a batch, shared among processes; weights, average, checkpoints.

Knows nothing of the command or of how the student is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mindsight.errors import BadRequest, MindsightError
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from training.course.run import Course
from training.course.run import run as run_course
from training.course.schedule import learning_rate
from training.course.team import Team
from training.distillation.config import Config
from training.distillation.consistency import Levels, loss
from training.distillation.examples import Examples
from training.distillation.networks import Networks

_LARGEST_GRADIENT = 1.0  # its norm is cut to this, as in the published recipes
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Training:
    """One process's part of a run. ``step`` is how many steps the optimiser has made."""

    def __init__(self, config: Config, networks: Networks, examples: Examples, unclip: Unclip, team: Team) -> None:
        share, left_over = divmod(config.batch, team.size)
        self._micro = min(config.micro_batch or share, share)
        if left_over or not share or share % self._micro:
            raise BadRequest(
                f"expected a batch that {team.size} processes share in whole parts of micro_batch, got batch"
                f" {config.batch} and micro_batch {config.micro_batch}: choose a multiple",
                code="training.config",
            )
        self.config, self.networks, self.team = config, networks, team
        self._examples, self._unclip, self._levels = examples, unclip, Levels.on(unclip.device)
        self._first = team.rank * share  # of this process's samples in a batch
        self._parts = share // self._micro
        self.optimiser = torch.optim.AdamW(networks.trained.values(), lr=config.learning_rate, fused=True)
        self.step = 0

    def gradients(self) -> Tensor:
        """The mean loss of the next batch; its gradients are then those of the weights, the same in all processes."""
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._unclip.device)
        start = self.step * self.config.batch + self._first
        for part in range(self._parts):
            samples = range(start + part * self._micro, start + (part + 1) * self._micro)
            batch = self._examples.batch(samples, self.config.seed, self._unclip)
            nets = self.networks
            of = loss(nets.student, nets.teacher, nets.target, self._levels, batch, self.config.guidance) / self._parts
            of.backward()  # type: ignore[no-untyped-call]
            total += of.detach()
        gradients = [weight.grad for weight in self.networks.trained.values() if weight.grad is not None]
        self.team.average([total, *gradients])
        return total

    def advance(self) -> dict[str, float]:
        """Make one step; its figures. Raises MindsightError (``training.diverged``)."""
        rate = learning_rate(self.config.learning_rate, self.step / self.config.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        mean = self.gradients()
        norm = nn.utils.clip_grad_norm_(self.networks.trained.values(), _LARGEST_GRADIENT)
        figures = {"loss": float(mean), "gradient_norm": float(norm), "learning_rate": rate}
        if not all(math.isfinite(figure) for figure in figures.values()):
            raise MindsightError(
                f"expected a finite loss and gradient, got {figures['loss']} and {figures['gradient_norm']} at step"
                f" {self.step + 1}: lower learning_rate in a run of its own, or set precision to float32",
                code="training.diverged",
            )
        self.optimiser.step()
        self.networks.follow(self.config.ema)
        self.step += 1
        return figures

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to continue, beside the number of steps."""
        held: dict[str, Tensor] = {}
        for name, weight in self.networks.trained.items():
            held[f"trained.{name}"], held[f"averaged.{name}"] = weight, self.networks.averaged[name]
            for moment in _MOMENTS:
                held[f"{moment}.{name}"] = self.optimiser.state[weight][moment]
        return held

    @torch.no_grad()
    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        """Continue after ``step`` with what ``state`` gave."""
        self.step = step
        for name, weight in self.networks.trained.items():
            weight.copy_(held[f"trained.{name}"])
            self.networks.averaged[name].copy_(held[f"averaged.{name}"])
            self.optimiser.state[weight] = {
                "step": torch.tensor(float(step), device=weight.device),
                # in the weight's own memory layout, which a card's networks change
                **{moment: torch.empty_like(weight).copy_(held[f"{moment}.{name}"]) for moment in _MOMENTS},
            }


def run(training: Training, out: Path, described: Mapping[str, Any], clock: Callable[[], float]) -> None:
    """Make the steps that are left, from the newest checkpoint on; see ``course.run``."""
    config = training.config
    course = Course(
        out=out,
        kind="distillation",
        described=described,
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    run_course(training, course, training.team, clock)
