"""The demo's image encoder: an image becomes a small grid of tokens, the space that betas are decoded into.

Knows nothing of brains, scenes or diffusion: images in, tokens out.

Axes: B images, N tokens (a square grid, row by row), D channels of a token, H and W pixels, C feature channels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mindsight.encoders.sources import as_uint8
from mindsight.features import FeatureSpace
from mindsight.weights.artefact import built, read_artefact, write_artefact

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes: ``image_size`` is 16 times the edge of the token grid, ``widths`` are those at 1/4, 1/8 and 1/16 of it."""

    image_size: int = 64
    token_dim: int = 64
    widths: tuple[int, int, int] = (48, 96, 160)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x_BCHW)))
        return x_BCHW + self.conv2(functional.silu(self.norm2(hidden)))  # type: ignore[no-any-return]


class DemoEncoder(nn.Module):
    """A small convolutional network whose tokens are layer-normalised: each has mean 0 and variance 1 over its D.

    All tokens have the same length, so that errors of ridge regression, contrastive losses and token noise compare.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.digest = ""  # of the folder it was loaded from or saved to
        quarter, eighth, sixteenth = config.widths
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, quarter, 3, padding=1),
            ResidualBlock(quarter),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            ResidualBlock(eighth),
            nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1),
            ResidualBlock(sixteenth),
            ResidualBlock(sixteenth),
            nn.GroupNorm(8, sixteenth),
            nn.SiLU(),
            nn.Conv2d(sixteenth, config.token_dim, 1),
        )

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def n_tokens(self) -> int:
        return (self.config.image_size // 16) ** 2

    @property
    def token_dim(self) -> int:
        return self.config.token_dim

    @property
    def space(self) -> FeatureSpace:
        return token_space(self.n_tokens, self.token_dim, self.digest)

    @property
    def source(self) -> str:
        return f"Mindsight's own encoder, sha256 {self.digest}"

    @classmethod
    def load(cls, folder: Path) -> DemoEncoder:
        """Load the encoder of ``folder``, verified; ``ModelMismatch`` if it is not what its manifest says."""
        artefact = read_artefact(folder, "encoder")
        encoder = built(
            artefact, "encoder", lambda config: cls(EncoderConfig(**(config | {"widths": tuple(config["widths"])})))
        )
        encoder.digest = artefact.digest
        return encoder.eval().requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Write weights (fp16), config and manifest into ``folder``."""
        self.digest = write_artefact(folder, "encoder", asdict(self.config), self.state_dict())

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Images scaled to [-1, 1] in, tokens (B, N, D) out."""
        tokens_BND = self.layers(pixels_B3HW).flatten(2).transpose(1, 2)
        return functional.layer_norm(tokens_BND.float(), (self.config.token_dim,))

    @torch.inference_mode()
    def encode(self, images_BHW3: NDArray[Any]) -> NDArray[np.float32]:
        """Tokens (B, N, D) of images (B, H, W, 3) of the encoder's own size, uint8 or floats in [0, 1]."""
        images_BHW3 = as_uint8(images_BHW3)
        chunks = [self(to_pixels(images_BHW3[i : i + _BATCH])) for i in range(0, len(images_BHW3), _BATCH)]
        tokens_BND: NDArray[np.float32] = torch.cat(chunks).numpy()
        return tokens_BND


def token_space(n_tokens: int, token_dim: int, encoder_digest: str) -> FeatureSpace:
    """The space of the tokens of a demo encoder with this digest."""
    return FeatureSpace("mindsight-demo-tokens", (n_tokens, token_dim), "layer norm of each token", encoder_digest)


def to_grid(tokens_BND: Tensor) -> Tensor:
    """Lay tokens on their square grid: (B, D, side, side)."""
    side = round(tokens_BND.shape[1] ** 0.5)
    # not len(), which would write this batch's size into an exported graph
    return tokens_BND.transpose(1, 2).reshape(tokens_BND.shape[0], -1, side, side)


def to_pixels(images_BHW3: NDArray[np.uint8]) -> Tensor:
    """Scale uint8 (B, H, W, 3) to floats (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images_BHW3).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
