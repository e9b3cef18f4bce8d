"""Weights that follow from a formula: the same in every run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def closed_form_weights(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A sine for every tensor, scaled so that signals neither die nor explode; counters are left out."""
    state = {}
    for number, key in enumerate(sorted(key for key in wanted if not key.endswith("num_batches_tracked"))):
        shape = tuple(wanted[key].shape)
        wave = torch.sin(12.9898 * torch.arange(math.prod(shape), dtype=torch.float64) + number).reshape(shape)
        if len(shape) > 1:
            wave = wave * 2.0 / math.sqrt(math.prod(shape[1:]))
        elif key.endswith("running_var"):
            wave = 1.0 + 0.5 * wave
        elif key.endswith("weight"):
            wave = 1.0 + 0.1 * wave
        else:
            wave = 0.1 * wave
        state[key] = wave.float()
    return state
