"""The network of the diffusion prior: noisy image tokens, time and brain tokens in, clean image tokens out.

Knows nothing of noise schedules or of sampling. Scotti et al. 2024, section 2.2.

Axes: B batch, N tokens, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mindsight.decoders.mindeye2.layout import Layout
from mindsight.decoders.mindeye2.transformer import Positions, Transformer


class PriorNetwork(nn.Module):
    """Tokens: brain (N), time (1), noisy image + learned query (N). The prediction is what comes out of the last N."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        assert layout.prior is not None
        shape, scale = (layout.tokens, layout.dim), layout.dim**-0.5
        self.learned_query = nn.Parameter(torch.randn(shape) * scale)
        self.null_brain_embeds = nn.Parameter(torch.randn(shape) * scale)
        self.null_image_embed = nn.Parameter(torch.randn(shape) * scale)
        self.to_time_embeds = nn.Sequential(nn.Sequential(Sinusoid(layout.dim), TimeMlp(layout.dim)))
        self.causal_transformer = Transformer(
            layout.dim, layout.prior.depth, layout.prior.heads, layout.prior.dim_head, layout.prior.inner
        )

    def positions(self) -> Positions:
        transformer: Transformer = self.causal_transformer
        return transformer.positions(2 * len(self.learned_query) + 1)

    def time_tokens(self, t_B: Tensor) -> Tensor:
        """(B, 1, D) time tokens, before anything of the trial is known."""
        tokens_BD: Tensor = self.to_time_embeds(t_B)
        return tokens_BD[:, None]

    def forward(self, image_BND: Tensor, time_B1D: Tensor, brain_BND: Tensor, at: Positions) -> Tensor:
        tokens_BSD = torch.cat((brain_BND, time_B1D, image_BND + self.learned_query), dim=1)
        predicted: Tensor = self.causal_transformer(tokens_BSD, at, len(self.learned_query))
        return predicted

    def null(self, time_B1D: Tensor, at: Positions) -> Tensor:
        """The prediction without brain and image (B, N, D): a function of time alone."""
        shape = (len(time_B1D), *self.learned_query.shape)
        image, brain = self.null_image_embed.expand(shape), self.null_brain_embeds.expand(shape)
        predicted: Tensor = self(image, time_B1D, brain, at)
        return predicted


def guide(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: away from the prediction without a condition."""
    return null + scale * (conditional - null)


class Sinusoid(nn.Module):
    """Continuous time embedding: sines then cosines, frequencies from 1 to 1/10000."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._half = dim // 2

    def forward(self, t_B: Tensor) -> Tensor:
        octaves = torch.arange(self._half, device=t_B.device) * (-math.log(10000) / (self._half - 1))
        angles_BF = t_B[:, None] * octaves.exp()
        return torch.cat((angles_BF.sin(), angles_BF.cos()), dim=-1)


class TimeMlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        wide = 2 * dim
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(dim, wide), nn.SiLU()),
            nn.Sequential(nn.Linear(wide, wide), nn.SiLU()),
            nn.Linear(wide, dim),
        )

    def forward(self, embedded_BD: Tensor) -> Tensor:
        out: Tensor = self.net(embedded_BD.to(next(self.parameters()).dtype))
        return out
