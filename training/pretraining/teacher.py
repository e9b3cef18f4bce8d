"""The teacher of MindEye2's low-level maps: a ConvNeXt (Liu et al. 2022) trained by VICRegL (Bardes et al. 2022).

Module names are those of the published checkpoint, ``backbone.`` and ``maps_projector.``; every width is read off its
shapes. Knows nothing of brains. Letters: B images, C channels, H and W, P places of the map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.errors import ModelMismatch
from mindsight.weights.fit import require_fit
from mindsight.weights.state_dict import read_state_dict

MEAN, STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)  # the reference's, in which ImageNet's first 0.229 is 0.228
_WHAT = "a VICRegL checkpoint of a ConvNeXt"
_EPSILON = 1e-6


class Teacher(nn.Module):
    """(B, 3, 224, 224) images in [0, 1] → (B, 49, 512) features of the places of its last map."""

    mean: Tensor
    std: Tensor

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], projected: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = ConvNeXt(widths, depths)
        first, second, last = projected
        self.maps_projector = nn.Sequential(
            nn.Linear(widths[-1], first),
            nn.LayerNorm(first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.LayerNorm(second),
            nn.ReLU(),
            nn.Linear(second, last, bias=False),
        )
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        map_BCHW = self.backbone((images_B3HW - self.mean) / self.std)
        features_BPC: Tensor = self.maps_projector(map_BCHW.flatten(2).transpose(1, 2))
        return features_BPC


class ConvNeXt(nn.Module):
    """widths, depths : channels and blocks of each of the stages"""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0]))
        steps = [
            nn.Sequential(ChannelNorm(before), nn.Conv2d(before, after, 2, 2)) for before, after in pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([stem, *steps])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for smaller, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_BCHW = stage(smaller(x_BCHW))
        return x_BCHW


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an image."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_EPSILON)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BHWC = self.norm(self.dwconv(x_BCHW).movedim(1, -1))
        inner_BHWC = self.gamma * self.pwconv2(F.gelu(self.pwconv1(inner_BHWC)))
        return cast(Tensor, x_BCHW + inner_BHWC.movedim(-1, 1))


def load_teacher(path: Path, device: str = "cpu") -> Teacher:
    """The teacher of a checkpoint, whose heads for whole images are left out.

    Raises ModelMismatch (``checkpoint.unreadable``, ``checkpoint.keys``).
    """
    state = {_without_wrapper(key): tensor for key, tensor in read_state_dict(path).items()}
    state = {key: tensor for key, tensor in state.items() if _is_of_maps(key)}
    with torch.device("meta"):
        teacher = Teacher(*_sizes(state))
    require_fit(_WHAT, state, teacher.state_dict())
    teacher.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    teacher.mean, teacher.std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return teacher.to(device).eval().requires_grad_(False)


def _without_wrapper(key: str) -> str:
    return key.removeprefix("module.")


def _is_of_maps(key: str) -> bool:
    return key.startswith(("backbone.downsample_layers.", "backbone.stages.", "maps_projector."))


def _sizes(state: Mapping[str, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    blocks = {match.groups() for key in state if (match := re.match(r"backbone\.stages\.(\d+)\.(\d+)\.", key))}
    stages = range(len({stage for stage, _ in blocks}))
    try:
        widths = tuple(len(state[f"backbone.stages.{stage}.0.gamma"]) for stage in stages)
        projected = tuple(len(state[f"maps_projector.{place}.weight"]) for place in (0, 3, 6))
        if not widths:
            raise KeyError("backbone.stages.0.0.gamma")
    except KeyError as error:
        raise ModelMismatch(
            f"expected {_WHAT}, with backbone and maps_projector, got none of {error.args[0]}: choose"
            " convnext_xlarge_alpha0.75_fullckpt.pth",
            code="checkpoint.keys",
        ) from None
    return widths, tuple(sum(stage == str(own) for stage, _ in blocks) for own in stages), projected
