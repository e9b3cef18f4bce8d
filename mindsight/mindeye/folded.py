"""The inference form of one subject's decoder: what the mixer blocks add is folded into biases, dead weights dropped.

Knows nothing of training. Equal to the full form in exact arithmetic: with one time point per trial each mixer block
resets the latent to its input plus a constant (see ``Backbone.mixer_constant``), so voxels to tokens is affine.

Axes: B batch, V voxels, H hidden, N tokens, D channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.mindeye.backbone import Backbone
from mindsight.mindeye.model import MindEye2, Tokens, heads
from mindsight.mindeye.prior import DiffusionPrior


class FoldedMindEye2:
    """Decodes one subject: two matrix products to backbone tokens, then the heads. Made by ``fold``."""

    def __init__(self, trunk: Backbone, ridge_HV: Tensor, shift_H: Tensor, prior: DiffusionPrior | None) -> None:
        self.trunk, self._ridge_HV, self._shift_H = trunk, ridge_HV, shift_H
        self.prior = prior

    @torch.inference_mode()
    def tokens(self, voxels_BV: Tensor) -> Tokens:
        """Tokens of z-scored betas (B, V)."""
        return heads(self.trunk, F.linear(voxels_BV, self._ridge_HV, self._shift_H))


def fold(model: MindEye2, subject: int = 0) -> FoldedMindEye2:
    """The inference form for one subject. It shares the live weights and holds none of the mixer blocks'."""
    linear = cast(nn.Linear, model.ridge.linears[subject])
    # in float64: in half precision the norm over one element leaves a residue that is not zero
    shift_H = (linear.bias.double() + model.backbone.mixer_constant().to(linear.bias.device)).to(linear.bias.dtype)
    with torch.device("meta"):
        trunk = Backbone(replace(model.layout, n_blocks=0))
    live = {key: value for key, value in model.backbone.state_dict().items() if not key.startswith("mixer_blocks")}
    trunk.load_state_dict(live, assign=True)
    return FoldedMindEye2(trunk.eval(), linear.weight.detach(), shift_H.detach(), model.prior)
