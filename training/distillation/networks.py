"""Teacher, student and target of a distillation, and which weights of the student are trained.

Either all weights, and then three networks are in memory; or low-rank changes of the teacher's, and then one network is
all three. Knows nothing of losses or of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mindsight.generators.unclip.sdxl.folder import Read
from mindsight.generators.unclip.sdxl.loading import built
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from training.distillation.config import Config
from training.distillation.consistency import Evaluate
from training.distillation.low_rank import Factors, LowRank


@dataclass(frozen=True, eq=False)
class Networks:
    """
    trained : float32, of the student
    averaged : their moving average, which the target has, and the exported student
    merged : the exported U-Net's weights, from the teacher's as they were stored, in the same dtypes
    """

    student: Evaluate
    teacher: Evaluate
    target: Evaluate
    trained: Mapping[str, nn.Parameter]
    averaged: Mapping[str, Tensor]
    merged: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the trained weights."""
        for name, slow in self.averaged.items():
            slow.lerp_(self.trained[name], 1.0 - decay)


def make_networks(config: Config, read: Read, device: str) -> tuple[Networks, Unclip]:
    """The networks, and the teacher that they were made of: what its U-Net gives is the student's now, if the student
    is low-rank changes of it.
    """
    teacher = built(read, getattr(torch, config.precision), device)
    if config.weights == "low-rank":
        return low_rank_networks(teacher.unet, config.rank, config.seed), teacher
    return whole_networks(teacher.unet, built(read, torch.float32, device).unet), teacher


def low_rank_networks(unet: Any, rank: int, seed: int) -> Networks:
    """Train low-rank changes.

    unet : the teacher's, frozen, in the dtype that it computes in
    """
    unet.enable_gradient_checkpointing()  # its activations would not fit beside the weights on a workstation's card
    layers = LowRank(unet)
    trained = layers.draw(rank, seed)
    averaged = {name: factor.detach().clone() for name, factor in trained.items()}
    layers.active = trained  # also when activations are computed again on the way back
    student = _evaluate(unet)

    def using(factors: Factors | None) -> Evaluate:
        def evaluate(*given: Tensor) -> Tensor:
            with layers.using(factors):
                return student(*given)

        return evaluate

    def merged(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = dict(stored)
        for name, change in layers.changes(averaged):
            weights[name] = (stored[name].float() + change.cpu()).to(stored[name].dtype)
        return weights

    return Networks(student, using(None), using(averaged), trained, averaged, merged)


def whole_networks(teacher: Any, student: Any) -> Networks:
    """Train all weights.

    teacher : frozen, in the dtype that it computes in, as student and target then do
    student : the same weights in float32
    """
    target = deepcopy(student).requires_grad_(False)
    student.requires_grad_(True).enable_gradient_checkpointing()

    def merged(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to("cpu", stored[name].dtype) for name, tensor in target.state_dict().items()}

    return Networks(
        _evaluate(student, teacher.dtype),
        _evaluate(teacher),
        _evaluate(target, teacher.dtype),
        dict(student.named_parameters()),
        dict(target.named_parameters()),
        merged,
    )


def _evaluate(unet: Any, dtype: torch.dtype | None = None) -> Evaluate:
    """dtype : to compute in; None: that of the weights"""
    computed = dtype or unet.dtype
    mixed = computed != unet.dtype

    def evaluate(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        read, beside = tokens.to(computed), vector.to(computed)
        with torch.autocast(latent.device.type, computed) if mixed else nullcontext():
            predicted: Tensor = unet(latent.to(computed), timestep.float(), read, beside, return_dict=False)[0]
        return predicted.float()

    return evaluate
