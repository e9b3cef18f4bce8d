"""The released checkpoints' names of tensors (Stability AI's ``generative-models``) as diffusers' names.

Knows nothing of tensors. Names are without the prefixes of the parts (``model.diffusion_model.``,
``first_stage_model.``); what is not a name of the part is None.
"""

from __future__ import annotations

import re

_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "class_embedding.linear_1",
    "label_emb.0.2": "class_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}

_VAE_RESNET = {"nin_shortcut": "conv_shortcut"} | {name: name for name in ("norm1", "norm2", "conv1", "conv2")}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_VAE_MIDDLE = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}
_VAE_ENDS = {"norm_out": "conv_norm_out", "conv_in": "conv_in", "conv_out": "conv_out"}


def unet_name(released: str, resnets: int) -> str | None:
    """resnets : residual blocks at each resolution on the way down"""
    module, _, kind = released.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    if match := re.fullmatch(r"middle_block\.([012])\.(.+)", module):
        return _join("mid_block", _inside(_MIDDLE[match[1]], match[2]), kind)
    if match := re.fullmatch(r"input_blocks\.(\d+)\.([01])\.(.+)", module):
        level, layer = divmod(int(match[1]) - 1, resnets + 1)
        if (match[2], match[3]) == ("0", "op"):
            return f"down_blocks.{level}.downsamplers.0.conv.{kind}"
        block = f"attentions.{layer}" if match[2] == "1" else f"resnets.{layer}"
        return _join(f"down_blocks.{level}", _inside(block, match[3]), kind)
    if match := re.fullmatch(r"output_blocks\.(\d+)\.([012])\.(.+)", module):
        level, layer = divmod(int(match[1]), resnets + 1)
        if match[2] != "0" and match[3] == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv.{kind}"
        block = f"attentions.{layer}" if match[2] == "1" else f"resnets.{layer}"
        return None if match[2] == "2" else _join(f"up_blocks.{level}", _inside(block, match[3]), kind)
    return None


def _inside(block: str, module: str) -> str | None:
    """A module of a residual block or of a transformer, whose names are alike in both."""
    if block.startswith("attentions"):
        return f"{block}.{module}"
    return f"{block}.{_RESNET[module]}" if module in _RESNET else None


def _join(block: str, module: str | None, kind: str) -> str | None:
    return None if module is None else f"{block}.{module}.{kind}"


def vae_name(released: str, levels: int) -> str | None:
    """levels : resolutions; the released decoder counts them from the finest, diffusers' in the order of use"""
    module, _, kind = released.rpartition(".")
    if module in ("quant_conv", "post_quant_conv"):
        return released
    half, _, inner = module.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    if inner in _VAE_ENDS:
        return f"{half}.{_VAE_ENDS[inner]}.{kind}"
    if match := re.fullmatch(r"mid\.(\w+)\.(\w+)", inner):
        table = _VAE_ATTENTION if match[1] == "attn_1" else _VAE_RESNET
        if match[1] in _VAE_MIDDLE and match[2] in table:
            return f"{half}.mid_block.{_VAE_MIDDLE[match[1]]}.{table[match[2]]}.{kind}"
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(?:block\.(\d+)\.(\w+)|(?:down|up)sample\.(conv))", inner):
        level = int(match[2]) if match[1] == "down" else levels - 1 - int(match[2])
        blocks = f"{half}.{match[1]}_blocks.{level}"
        if match[5]:
            return f"{blocks}.{match[1]}samplers.0.conv.{kind}"
        if match[4] in _VAE_RESNET:
            return f"{blocks}.resnets.{match[3]}.{_VAE_RESNET[match[4]]}.{kind}"
    return None
