"""The blurred image that MindEye2's low-level head predicts: latents of Stable Diffusion 1's autoencoder to pixels.

Another autoencoder than SDXL's, with another scale (0.18215); the two latents mean nothing to each other. Knows nothing
of samplers. Letters: B images, C channels of a latent, H and W.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip.sdxl.vae import LatentDecoder
from mindsight.weights.filling import filled
from mindsight.weights.state_dict import read_safetensors

SCALING = 0.18215  # Rombach et al. 2022; MindEye2 was trained towards latents multiplied by it
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


class LowLevelDecoder:
    """Latents to images; made by ``load_lowlevel``."""

    def __init__(self, autoencoder: Any) -> None:
        self._decoder = LatentDecoder(autoencoder)

    @torch.inference_mode()
    def __call__(self, latent_BCHW: Tensor) -> Tensor:
        """(B, 3, 8 H, 8 W) in [0, 1], float32."""
        images: Tensor = (0.5 * self._decoder(latent_BCHW).float() + 0.5).clamp(0.0, 1.0)
        return images


def load_lowlevel(folder: Path, device: str | torch.device = "cpu") -> LowLevelDecoder:
    """The decoder of ``load_autoencoder``. Raises what that raises."""
    network = load_autoencoder(folder, device)
    del network.encoder, network.quant_conv  # nothing is encoded
    return LowLevelDecoder(network)


def load_autoencoder(folder: Path, device: str | torch.device = "cpu") -> Any:
    """The network of a folder of diffusers' ``AutoencoderKL``, as Stable Diffusion 1's is published. In float32: it is
    small, and its latents are.

    Raises ModelMismatch (``checkpoint.unreadable``, ``checkpoint.keys``, ``vae.scaling`` for one of other latents).
    """
    from diffusers import AutoencoderKL  # seconds of import, for those who generate only

    try:
        with torch.device("meta"):
            network = AutoencoderKL.from_config(json.loads((folder / "config.json").read_bytes()))
    except (OSError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelMismatch(
            f"expected Stable Diffusion's autoencoder in {folder.name}/, got a config.json of another kind"
            f" ({type(error).__name__}): put diffusers' folder there",
            code="checkpoint.unreadable",
        ) from None
    if network.config.scaling_factor != SCALING:
        raise ModelMismatch(
            f"expected an autoencoder of scaling_factor {SCALING} in {folder.name}/, got"
            f" {network.config.scaling_factor}: choose that of Stable Diffusion 1, not SDXL's",
            code="vae.scaling",
        )
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), folder / _WEIGHTS[0])
    state = {_today(key): tensor for key, tensor in read_safetensors(weights).items()}
    wanted = network.state_dict()
    state = {key: of.flatten(1) if key in wanted and of.ndim > wanted[key].ndim else of for key, of in state.items()}
    return filled(network, "Stable Diffusion's autoencoder", state, torch.float32, device)


def _today(key: str) -> str:
    """Files of 2022 have other names for the weights of attention."""
    for old, new in _OLD_ATTENTION.items():
        key = key.replace(old, new)
    return key
