"""An SDXL unCLIP small enough for a test: random weights, the shape of the released one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.encoders.openclip import token_space
from mindsight.features import FeatureSpace
from mindsight.generators.unclip.sdxl.convert import write_unclip
from mindsight.generators.unclip.sdxl.released import Released
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import VaeLayout, build_vae
from support.tiny_open_clip import make_clip, write_config

SIZE_PX = 32
UNET = UnetLayout(widths=(32, 64), depths=(0, 1), head_dim=16, resnets=1, token_dim=48, vector_dim=64)
VAE = VaeLayout(widths=(32, 32, 32, 32), resnets=1)


@cache
def tiny_parts() -> Released:
    """With the image tower of ``tiny_open_clip``: 16 tokens of 48."""
    torch.manual_seed(4)
    unet, vae = build_unet(UNET), build_vae(VAE)
    with torch.no_grad():
        unet.conv_out.weight.mul_(3.0)  # so that the tokens show in the image
    tower: dict[str, Tensor] = dict(make_clip().visual.state_dict())
    return Released(
        unet_layout=UNET, unet=unet.state_dict(), vae_layout=VAE, vae=vae.state_dict(), size_px=SIZE_PX, tower=tower
    )


def tiny_space() -> FeatureSpace:
    return token_space(tiny_parts().tower, "tiny.json")


def write_tiny(folder: Path, **changes: Any) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    described = write_config(folder.parent)
    parts, space = tiny_parts(), tiny_space()
    write_unclip(folder, parts, torch.float16, space=space, size_px=SIZE_PX, described=described, **changes)


def write_lowlevel(folder: Path) -> None:
    """Stable Diffusion 1's autoencoder at small widths, in diffusers' layout."""
    from diffusers import AutoencoderKL

    torch.manual_seed(7)
    arguments = VAE.to_diffusers() | {"scaling_factor": 0.18215}
    AutoencoderKL(**arguments).save_pretrained(folder)
