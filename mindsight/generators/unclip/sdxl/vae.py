"""Images to latents and back: SDXL's autoencoder (diffusers' ``AutoencoderKL``), and the tiny one for previews.

Knows nothing of tokens. Letters: B images, C channels of a latent, H and W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

SCALING = 0.13025  # latents of SDXL's autoencoder are multiplied by this for the U-Net (Podell et al. 2023)


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeLayout:
    """Every dimension of the autoencoder; the default is SDXL's.

    widths : channels at each resolution, each a multiple of 32
    resnets : residual blocks at each resolution of the encoder; the decoder has one more
    """

    widths: tuple[int, ...] = (128, 256, 512, 512)
    resnets: int = 2
    channels: int = 4

    def to_diffusers(self) -> dict[str, Any]:
        """Arguments of diffusers' ``AutoencoderKL``."""
        levels = len(self.widths)
        return {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": self.widths,
            "layers_per_block": self.resnets,
            "latent_channels": self.channels,
            "scaling_factor": SCALING,
        }


def build_vae(layout: VaeLayout) -> Any:
    """An ``AutoencoderKL`` with weights drawn at random."""
    from diffusers import AutoencoderKL  # seconds of import, for those who generate only

    return AutoencoderKL(**layout.to_diffusers())


class LatentDecoder(nn.Module):
    """Latents of the U-Net to pixels in [-1, 1], with the full autoencoder or a tiny one (TAESDXL, Bohan 2023)."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder

    def forward(self, latent_BCHW: Tensor) -> Tensor:
        """(B, 3, 8 H, 8 W), not clamped, in the autoencoder's dtype."""
        latent = latent_BCHW.to(self.autoencoder.dtype) / self.autoencoder.config.scaling_factor
        pixels: Tensor = self.autoencoder.decode(latent, return_dict=False)[0]
        return pixels


def encode(autoencoder: Any, pixels_B3HW: Tensor) -> Tensor:
    """The latents (B, C, H / 8, W / 8) of pixels in [-1, 1]: the mean, nothing drawn; float32."""
    latent: Tensor = autoencoder.encode(pixels_B3HW.to(autoencoder.dtype)).latent_dist.mean
    return latent.float() * float(autoencoder.config.scaling_factor)
