"""``load_unclip``: from released weights, in any of their forms, to an SDXL unCLIP.

Knows nothing of what tensors are called; see ``released`` and ``folder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindsight.generators.unclip.sdxl.folder import is_folder, read_folder
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from mindsight.generators.unclip.sdxl.released import Parts, read_released, take_apart
from mindsight.generators.unclip.sdxl.unet import build_unet
from mindsight.generators.unclip.sdxl.vae import build_vae
from mindsight.weights.filling import filled


def load_unclip(
    source: Path | str | Mapping[str, Tensor],
    head_dim: int = 64,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Unclip:
    """Build the unCLIP that the weights describe, all dimensions from their shapes, ready to sample.

    source : a released checkpoint (``.ckpt`` or ``.safetensors``), or its state dict; or a folder in diffusers' layout,
        as ``mindsight convert unclip`` writes it, whose digests are verified. SDXL's base loads as well: the same U-Net
        with other tokens and a longer vector
    head_dim : width of an attention head, which shapes do not show; a folder states it itself, and so does the original
        YAML beside a checkpoint (``unclip6.yaml``), which must agree with the weights
    dtype : of both networks, but the autoencoder is in float32 beside a U-Net in float16, in which it would overflow

    Raises ModelMismatch: nothing is there (``checkpoint.missing``), it cannot be read without running code
    (``checkpoint.unreadable``), it was changed (``checkpoint.tampered``), keys are missing, unexpected or misshapen
    (``checkpoint.keys``), a YAML beside it is another's (``checkpoint.config``), or ``head_dim`` does not divide the
    widths (``unclip.head_dim``).
    """
    if not isinstance(source, Mapping) and is_folder(Path(source)):
        return built(read_folder(Path(source)), dtype, device)
    parts = take_apart(source, head_dim) if isinstance(source, Mapping) else read_released(Path(source), head_dim)
    return built(parts, dtype, device)


def built(parts: Parts, dtype: torch.dtype, device: str | torch.device) -> Unclip:
    """The networks with their weights. Raises ModelMismatch (``checkpoint.keys``)."""
    with torch.device("meta"):
        unet, vae = build_unet(parts.unet_layout), build_vae(parts.vae_layout)
    return Unclip(
        filled(unet, "an SDXL U-Net", parts.unet, dtype, device),
        filled(vae, "SDXL's autoencoder", parts.vae, torch.float32 if dtype == torch.float16 else dtype, device),
        parts.unet_layout,
        parts.size_px,
    )
