"""What the U-Net is given beside the latent: the vector of sizes, and the noise that an image starts from.

Knows nothing of networks. Letters: B images, C numbers of the vector, N tokens of D numbers, H and W of the latent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_PERIOD = 10_000.0
_OFFSET = 0.04  # of offset noise: one number for an image, as the released weights were trained


def size_vector(height_px: int, width_px: int, vector_dim: int) -> Tensor:
    """(C,) the size of the image, not cropped, each number as cosines and sines (Podell et al. 2023, section 2.2).

    vector_dim : numbers of the vector, a multiple of eight: height, width, top and left have a quarter each
    """
    return numbers_vector([height_px, width_px, 0, 0], vector_dim // 4)


def numbers_vector(numbers: Sequence[float], width: int) -> Tensor:
    """Numbers one after the other, each as ``width`` cosines and sines."""
    half = width // 2
    frequencies = torch.exp(-math.log(_PERIOD) * torch.arange(half) / half)
    angles = torch.tensor(numbers, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).flatten()


def draw_noise(generator: torch.Generator, shape: tuple[int, int, int], first_sigma: float) -> Tensor:
    """(C, H, W) of standard deviation one, with an offset, as MindEye2's reference draws it.

    first_sigma : the reference starts from unit noise plus noise of this standard deviation
    """
    unit_CHW, noise_CHW = (torch.randn(shape, generator=generator) for _ in range(2))
    return noise_CHW + _OFFSET * torch.randn(1, generator=generator) + unit_CHW / first_sigma


def draw_uncond(generator: torch.Generator, n_tokens: int, token_dim: int) -> Tensor:
    """(N, D) the tokens that guidance leads away from: Gaussian noise, since the weights know no empty ones."""
    return torch.randn(n_tokens, token_dim, generator=generator)
