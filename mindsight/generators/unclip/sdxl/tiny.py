"""The tiny autoencoder that decodes previews: diffusers' ``AutoencoderTiny``, a hundredth of the full one's work.

TAESDXL (Bohan 2023). Knows nothing of samplers.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip.sdxl.vae import LatentDecoder
from mindsight.weights.filling import filled
from mindsight.weights.state_dict import read_safetensors

_WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_tiny(
    source: Path | str, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> LatentDecoder:
    """A decoder to take the place of ``Unclip.decoder``.

    source : diffusers' folder, or the safetensors file of one with the published dimensions

    Raises ModelMismatch (``checkpoint.unreadable``, ``checkpoint.keys``, ``vae.scaling`` for one of other latents).
    """
    from diffusers import AutoencoderTiny  # seconds of import, for those who generate only

    path = Path(source)
    config = _config(path / "config.json") if path.is_dir() else {}
    try:
        with torch.device("meta"):
            network = AutoencoderTiny.from_config(config)
    except (TypeError, ValueError) as error:
        raise ModelMismatch(
            f"expected the configuration of a tiny autoencoder, got another: {error}", code="checkpoint.unreadable"
        ) from None
    if network.config.scaling_factor != 1.0:  # it takes the U-Net's latents as they are
        raise ModelMismatch(
            f"expected a tiny autoencoder of scaling_factor 1.0, got {network.config.scaling_factor}: choose TAESDXL",
            code="vae.scaling",
        )
    state = read_safetensors(path / _WEIGHTS if path.is_dir() else path)
    return LatentDecoder(filled(network, "a tiny autoencoder", state, dtype, device))


def _config(path: Path) -> dict[str, object]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelMismatch(
            f"expected the configuration of a tiny autoencoder, got {path.name}: {type(error).__name__}",
            code="checkpoint.unreadable",
        ) from None
