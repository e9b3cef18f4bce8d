"""A checkpoint in the layout of the released files, taken apart into U-Net, autoencoder and image tower.

Knows nothing of values: a state dict of the meta device is enough. Every key is accounted for. Layout:
``unclip6`` of Scotti et al. 2024, and SDXL's base (Podell et al. 2023), whose keys are alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip.sdxl.names import unet_name, vae_name
from mindsight.generators.unclip.sdxl.original import original_beside
from mindsight.generators.unclip.sdxl.unet import UnetLayout
from mindsight.generators.unclip.sdxl.vae import VaeLayout
from mindsight.weights.fit import require_none
from mindsight.weights.state_dict import read_state_dict

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_TOWER = re.compile(r"conditioner\.embedders\.\d+\.model\.visual\.")
# what a training run leaves beside the weights: text towers, the noise schedule, an average that is not used, losses
_LEFT_OUT = ("conditioner.", "denoiser.", "model_ema.", "first_stage_model.loss.", "loss_fn.")

State = dict[str, Tensor]


SIZE_PX = 768
"""Edge of the images that the released weights are best at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The networks of an unCLIP: dimensions, and weights under diffusers' names; edge of its images."""

    unet_layout: UnetLayout
    unet: State
    vae_layout: VaeLayout
    vae: State
    size_px: int = SIZE_PX


@dataclass(frozen=True, kw_only=True, slots=True)
class Released(Parts):
    """tower : names below ``visual.``, empty if there is none; left_out : keys that no part needs"""

    tower: State
    left_out: tuple[str, ...] = ()


def read_released(checkpoint: Path, head_dim: int) -> Released:
    """The parts of a file. A YAML beside it states ``head_dim``, and must agree with the weights.

    Raises ModelMismatch: what ``read_state_dict`` and ``take_apart`` raise, and ``checkpoint.config``.
    """
    original = original_beside(checkpoint)
    parts = take_apart(read_state_dict(checkpoint), head_dim if original is None else original.head_dim)
    if original is not None:
        original.require(parts.unet_layout)
    return parts


def take_apart(state: Mapping[str, Tensor], head_dim: int) -> Released:
    """Raises ModelMismatch (``checkpoint.keys``) for keys that belong to no part, and for another architecture."""
    parts: dict[str, State] = {"unet": {}, "vae": {}, "tower": {}}
    left_out, unexpected = [], []
    for key, tensor in state.items():
        if key.startswith(_UNET):
            parts["unet"][key.removeprefix(_UNET)] = tensor
        elif match := _TOWER.match(key):
            parts["tower"][key[match.end() :]] = tensor
        elif key.startswith(_LEFT_OUT):
            left_out.append(key)
        elif key.startswith(_VAE):
            parts["vae"][key.removeprefix(_VAE)] = tensor
        else:
            unexpected.append(key)
    require_none("an SDXL unCLIP", unexpected=unexpected)
    unet_layout, vae_layout = infer_unet(parts["unet"], head_dim), infer_vae(parts["vae"])
    vae = _renamed(parts["vae"], "SDXL's autoencoder", lambda key: vae_name(key, len(vae_layout.widths)))
    return Released(
        unet_layout=unet_layout,
        unet=_renamed(parts["unet"], "an SDXL U-Net", lambda key: unet_name(key, unet_layout.resnets)),
        vae_layout=vae_layout,
        # attention is written as 1 x 1 convolutions there
        vae={key: tensor.flatten(1) if _is_attention_weight(key, tensor) else tensor for key, tensor in vae.items()},
        tower=parts["tower"],
        left_out=tuple(left_out),
    )


def infer_unet(state: Mapping[str, Tensor], head_dim: int) -> UnetLayout:
    """Read the U-Net's dimensions off its keys and shapes.

    head_dim : shapes do not show it

    Raises ModelMismatch (``checkpoint.keys``) if a tensor that fixes a dimension is missing.
    """
    what = "an SDXL U-Net"
    vector, _ = _shape(state, "label_emb.0.0.weight", what, 2)[::-1]
    channels = _shape(state, "input_blocks.0.0.weight", what, 4)[1]
    levels: list[list[int]] = [[]]  # input blocks at each resolution
    for block in range(1, _count(state, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{block}.0.op.weight" in state:
            levels.append([])
        else:
            levels[-1].append(block)
    if not all(levels):
        raise ModelMismatch(f"expected {what} with blocks at each resolution, got {levels}", code="checkpoint.keys")
    widths = tuple(_shape(state, f"input_blocks.{of[0]}.0.out_layers.3.weight", what, 4)[0] for of in levels)
    depths = tuple(_count(state, rf"input_blocks\.{of[0]}\.1\.transformer_blocks\.(\d+)\.") for of in levels)
    attended = next((of[0] for of, depth in zip(levels, depths, strict=True) if depth), 0)
    to_k = f"input_blocks.{attended}.1.transformer_blocks.0.attn2.to_k.weight"
    if any(width % head_dim for width, depth in zip(widths, depths, strict=True) if depth):
        raise ModelMismatch(
            f"expected attention heads of {head_dim} numbers to divide the widths {widths}: give the head_dim that the"
            " network was trained with (num_head_channels in its YAML)",
            code="unclip.head_dim",
        )
    return UnetLayout(
        widths=widths,
        depths=depths,
        head_dim=head_dim,
        resnets=len(levels[0]),
        token_dim=_shape(state, to_k, what, 2)[1],
        vector_dim=vector,
        channels=channels,
    )


def infer_vae(state: Mapping[str, Tensor]) -> VaeLayout:
    """Read the autoencoder's dimensions off its keys and shapes. Raises ModelMismatch (``checkpoint.keys``)."""
    what = "SDXL's autoencoder"
    levels = _count(state, r"encoder\.down\.(\d+)\.")
    first = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(max(levels, 1))]
    return VaeLayout(
        widths=tuple(_shape(state, key, what, 4)[0] for key in first),
        resnets=_count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        channels=_shape(state, "post_quant_conv.weight", what, 4)[0],
    )


def _shape(state: Mapping[str, Tensor], key: str, what: str, axes: int) -> tuple[int, ...]:
    found = state.get(key)
    require_none(what, missing=[] if found is not None else [key])
    assert found is not None
    shape = tuple(found.shape)
    require_none(what, misshapen=[] if len(shape) == axes else [f"{key}: {shape}, needs {axes} axes"])
    return shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Different indexes that ``pattern`` finds at the start of keys; one left out is then reported as missing."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def _renamed(state: Mapping[str, Tensor], what: str, name: Callable[[str], str | None]) -> State:
    names = {key: name(key) for key in state}
    require_none(what, unexpected=[key for key, renamed in names.items() if renamed is None])
    return {renamed: state[key] for key, renamed in names.items() if renamed is not None}


def _is_attention_weight(key: str, tensor: Tensor) -> bool:
    return ".attentions." in key and tensor.ndim == 4
