"""The inference form of one subject's decoder: the mixer blocks become biases, dead weights are dropped.

Knows nothing of training. Equal to the full form in exact arithmetic: with one time point per trial each mixer block
resets the latent to its input plus a constant (see ``Backbone.mixer_constant``), so voxels to tokens is affine. It is
two products through the latent, or one if that means fewer weights to read: for a subject with fewer voxels than
the latent is wide.

Axes: B batch, V voxels, H hidden, N tokens, D channels, R repeats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from mindsight.decoders.mindeye2.affine import affine
from mindsight.decoders.mindeye2.backbone import Backbone
from mindsight.decoders.mindeye2.model import MindEye2, Tokens
from mindsight.decoders.mindeye2.prior import DiffusionPrior
from mindsight.errors import ModelMismatch
from mindsight.weights.device import Placement

_DEAD = ("mixer_blocks", "b_maps_projector.")  # without influence, and for training only


class FoldedMindEye2:
    """Decodes one subject. Made by ``fold``.

    trunk : the heads, from the latent, or from voxels if ``ridge_HV`` is None
    """

    def __init__(
        self, trunk: Backbone, ridge_HV: Tensor | None, shift_H: Tensor | None, prior: DiffusionPrior | None
    ) -> None:
        self.trunk, self._ridge_HV, self._shift_H = trunk, ridge_HV, shift_H
        self.prior = prior

    @property
    def n_voxels(self) -> int:
        weight = self.trunk.backbone_linear.weight if self._ridge_HV is None else self._ridge_HV
        return weight.shape[1]

    @torch.inference_mode()
    def tokens(self, voxels_BV: Tensor, *, lowlevel: bool = True) -> Tokens:
        """Tokens of z-scored betas (B, V). ``lowlevel=False`` skips a head that ranking does not need.

        Raises ModelMismatch (``decoder.voxel_count``) for betas of another mask.
        """
        if voxels_BV.ndim != 2 or voxels_BV.shape[1] != self.n_voxels:
            raise ModelMismatch(
                f"expected betas (B, {self.n_voxels}) of the decoder's {self.n_voxels} voxels, got "
                f"{tuple(voxels_BV.shape)}: sample the subject's mask",
                code="decoder.voxel_count",
            )
        latent, linear, layout = voxels_BV, self.trunk.backbone_linear, self.trunk.layout
        if self._ridge_HV is not None and self._shift_H is not None:
            latent = affine(voxels_BV, self._ridge_HV, self._shift_H)
        backbone_BND = affine(latent, linear.weight, linear.bias).reshape(-1, layout.tokens, layout.dim)
        blurry = self.trunk.lowlevel(latent) if lowlevel and layout.lowlevel else None
        return Tokens(backbone_BND, self.trunk.clip_proj(backbone_BND), blurry)

    def tokens_of_repeats(self, voxels_RV: Tensor, *, lowlevel: bool = True) -> Tokens:
        """Tokens (1, ...) of R trials that showed the same image: the mean over the trials at every head.

        Means are taken after the non-linearities, as in the reference (three repeats per image in the published
        figures). Each weight is read once for all repeats. When a beta is revised or another repeat arrives, call again
        with all betas: nothing is kept between calls.
        """
        backbone, retrieval, blurry = self.tokens(voxels_RV, lowlevel=lowlevel)
        return Tokens(
            backbone.mean(0, keepdim=True),
            retrieval.mean(0, keepdim=True),
            None if blurry is None else blurry.mean(0, keepdim=True),
        )

    def place(self, placement: Placement) -> None:
        """Cast once and move; rotary frequencies, which are buffers, stay float32."""
        placement.place(self.trunk)
        if self.prior is not None:
            placement.place(self.prior)
        if self._ridge_HV is not None and self._shift_H is not None:
            self._ridge_HV, self._shift_H = placement.weight(self._ridge_HV), placement.weight(self._shift_H)

    def tensors(self) -> list[Tensor]:
        """Every weight that a trial's tokens need, each once; the prior's are not among them."""
        ridge = [tensor for tensor in (self._ridge_HV, self._shift_H) if tensor is not None]
        return [*ridge, *self.trunk.parameters()]


def fold(model: MindEye2, subject: int = 0) -> FoldedMindEye2:
    """The inference form for one subject: it shares the model's weights, except those of the mixer blocks.

    Where composing is smaller (fewer voxels than the latent is wide), the layers after the latent read voxels instead.
    """
    linear = cast(nn.Linear, model.ridge.linears[subject])
    weight_HV = linear.weight.detach()
    # in float64: in half precision the norm over one element leaves a residue that is not zero
    shift_H = linear.bias.detach().double() + model.backbone.mixer_constant().to(linear.bias.device)
    live = {key: value for key, value in model.backbone.state_dict().items() if not key.startswith(_DEAD)}
    behind = [name for name in ("backbone_linear", "blin1") if f"{name}.weight" in live]
    outputs = sum(len(live[f"{name}.weight"]) for name in behind)
    hidden, voxels = weight_HV.shape
    composed = voxels * outputs < hidden * (voxels + outputs)
    if composed:
        for name in behind:
            live |= _composed(name, live, weight_HV, shift_H)
    with torch.device("meta"):
        trunk = Backbone(replace(model.layout, n_blocks=0, hidden=voxels if composed else hidden))
    if model.layout.lowlevel:
        del trunk.b_maps_projector
    trunk.load_state_dict(live, assign=True)
    trunk = trunk.eval().requires_grad_(False)
    if composed:
        return FoldedMindEye2(trunk, None, None, model.prior)
    return FoldedMindEye2(trunk, weight_HV, shift_H.to(linear.bias.dtype), model.prior)


def _composed(name: str, live: dict[str, Tensor], weight_HV: Tensor, shift_H: Tensor) -> dict[str, Tensor]:
    """A layer that reads the latent, composed to read voxels; in blocks of rows, to keep few float64 in memory."""
    weight_XH, bias_X = live[f"{name}.weight"], live[f"{name}.bias"]
    wide_HV, rows = weight_HV.double(), 1 << 14
    weight_XV = torch.cat([(block.double() @ wide_HV).to(weight_XH.dtype) for block in torch.split(weight_XH, rows)])
    bias = torch.cat([block.double() @ shift_H for block in torch.split(weight_XH, rows)]) + bias_X.double()
    return {f"{name}.weight": weight_XV, f"{name}.bias": bias.to(bias_X.dtype)}
