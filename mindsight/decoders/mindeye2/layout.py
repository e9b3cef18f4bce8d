"""The dimensions of a MindEye2 model, and how they are read off the keys and shapes of a checkpoint.

Knows nothing of values: a state dict of the meta device is enough. Key names: Scotti et al. 2024 (MindEye2), released
files of both the 249-key (with low-level head) and the 149-key layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.fit import require_none

WHAT = "a MindEye2 checkpoint"
_FIRST_LAYER = "diffusion_prior.net.causal_transformer.layers.0."
_POSITION_BIAS = "diffusion_prior.net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorLayout:
    """The diffusion prior's transformer: layers, heads, width of a head, inner width of the feed-forward."""

    depth: int = 6
    heads: int = 32
    dim_head: int = 52
    inner: int = 6656


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Every dimension that a checkpoint's keys and shapes determine.

    voxels : one number per ridge layer, in the order of the layers (sorted trained subjects)
    hidden : width of the latent that the subjects share
    n_blocks : mixer blocks; with one token of sequence they add a constant and nothing else
    tokens, dim : image tokens and their width (256 × 1664 for OpenCLIP bigG)
    lowlevel : whether the 4×28×28 latent head is there
    """

    voxels: tuple[int, ...]
    hidden: int
    tokens: int
    dim: int
    n_blocks: int = 4
    lowlevel: bool = False
    prior: PriorLayout | None = None


def infer_layout(state: Mapping[str, Tensor]) -> Layout:
    """Read the layout off a checkpoint's keys.

    Raises ModelMismatch (``checkpoint.keys``) if a tensor that fixes a dimension is missing or has another number of
    axes, and if dimensions contradict each other.
    """
    n_subjects, n_blocks, depth = (
        _count(state, pattern)
        for pattern in (
            r"ridge\.linears\.(\d+)\.",
            r"backbone\.mixer_blocks\d\.(\d+)\.",
            r"diffusion_prior\.net\.causal_transformer\.layers\.(\d+)\.",
        )
    )
    has_prior = any(key.startswith("diffusion_prior.net.") for key in state)
    _require_anchors(state, n_subjects, has_prior)
    wide, hidden = state["backbone.backbone_linear.weight"].shape
    dim = len(state["backbone.clip_proj.0.weight"])
    if not dim or wide % dim:
        raise ModelMismatch(
            f"expected backbone_linear to give whole tokens of {dim} (the width of clip_proj), "
            f"got {wide} outputs; this is not a MindEye2 checkpoint or it is damaged"
        )
    if (sequence := len(state["backbone.mixer_blocks2.0.0.weight"])) != 1:
        raise ModelMismatch(f"expected a checkpoint for one time point per trial, got one that mixes {sequence}")
    return Layout(
        voxels=tuple(state[f"ridge.linears.{i}.weight"].shape[1] for i in range(max(n_subjects, 1))),
        hidden=hidden,
        tokens=wide // dim,
        dim=dim,
        n_blocks=n_blocks,
        lowlevel="backbone.blin1.weight" in state,
        prior=_prior_layout(state, depth) if has_prior else None,
    )


def _require_anchors(state: Mapping[str, Tensor], n_subjects: int, has_prior: bool) -> None:
    """Raises ModelMismatch if a tensor that fixes a dimension is missing or has another number of axes."""
    anchors = {f"ridge.linears.{i}.weight": 2 for i in range(max(n_subjects, 1))}
    anchors |= {"backbone.backbone_linear.weight": 2, "backbone.clip_proj.0.weight": 1}
    anchors |= {"backbone.mixer_blocks2.0.0.weight": 1}
    if has_prior:
        anchors |= {f"{_FIRST_LAYER}0.null_kv": 2, f"{_FIRST_LAYER}1.5.weight": 2, _POSITION_BIAS: 2}
    require_none(
        WHAT,
        missing=[key for key in anchors if key not in state],
        misshapen=[
            f"{key}: {tuple(state[key].shape)}, needs {axes} axes"
            for key, axes in anchors.items()
            if key in state and state[key].ndim != axes
        ],
    )


def _prior_layout(state: Mapping[str, Tensor], depth: int) -> PriorLayout:
    return PriorLayout(
        depth=depth,
        heads=state[_POSITION_BIAS].shape[1],
        dim_head=state[f"{_FIRST_LAYER}0.null_kv"].shape[1],
        inner=state[f"{_FIRST_LAYER}1.5.weight"].shape[1],
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """The number of different indexes that ``pattern`` finds at the start of keys.

    They should be the first n. An index left out is then reported as missing, and a large number in a key never makes a
    model larger than its file.
    """
    return len({match[1] for key in state if (match := re.match(pattern, key))})
