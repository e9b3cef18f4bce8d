"""The diffusion prior: brain tokens in, image tokens out, by predicting the clean tokens at each of a few noise levels.

Knows nothing of betas. Scotti et al. 2024, section 2.2; sampled as in the reference: raw token space, no scaling.

Axes: B batch, N tokens, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.decoders.mindeye2.layout import Layout
from mindsight.decoders.mindeye2.sampler import Sampler, guide
from mindsight.decoders.mindeye2.schedule import alphas_cumprod
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


class DiffusionPrior(nn.Module):
    """The network with its noise schedule. ``predict`` is one evaluation, ``sample`` a whole trajectory."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.net = PriorNetwork(layout)

    def predict(self, noisy_BND: Tensor, t_B: Tensor, cond_BND: Tensor, cond_scale: float = 1.0) -> Tensor:
        """Clean image tokens (B, N, D) as the network sees them in ``noisy_BND`` at times ``t_B`` (0 to 99).

        ``cond_scale`` other than 1 is classifier-free guidance: null + scale · (conditional - null).
        """
        at, time_B1D = self.net.positions(), self.net.time_tokens(t_B)
        predicted: Tensor = self.net(noisy_BND, time_B1D, cond_BND, at)
        return predicted if cond_scale == 1.0 else guide(predicted, self._null(time_B1D, at), cond_scale)

    def predict_null(self, t_B: Tensor) -> Tensor:
        """What the network predicts without brain and image (B, N, D): a function of time alone."""
        return self._null(self.net.time_tokens(t_B), self.net.positions())

    def _null(self, time_B1D: Tensor, at: Positions) -> Tensor:
        shape = (len(time_B1D), *self.net.learned_query.shape)
        image, brain = self.net.null_image_embed.expand(shape), self.net.null_brain_embeds.expand(shape)
        predicted: Tensor = self.net(image, time_B1D, brain, at)
        return predicted

    @torch.inference_mode()
    def sample(
        self,
        cond_BND: Tensor,
        steps: int = 20,
        cond_scale: float = 1.0,
        noises: Iterable[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw image tokens (B, N, D) for brain tokens.

        ``noises`` are the standard normal draws (B, N, D) in the order they are used: the start, then one per
        evaluation but the last. Without them they come from ``generator`` (torch's global one if that is not given).
        To sample many times with the same weights, keep a ``Sampler``.
        """
        return Sampler(self, steps, cond_scale)(cond_BND, noises, generator)

    def loss(
        self,
        target_BND: Tensor,
        cond_BND: Tensor,
        t_B: Tensor,
        noise_BND: Tensor,
        keep_brain_B: Tensor | None = None,
        keep_image_B: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of the predicted clean tokens; samples that are not kept see the null tokens instead."""
        kept_B11 = torch.from_numpy(alphas_cumprod()).to(target_BND)[t_B][:, None, None]
        image_BND = kept_B11.sqrt() * target_BND + (1 - kept_B11).sqrt() * noise_BND
        if keep_brain_B is not None:
            cond_BND = torch.where(keep_brain_B[:, None, None], cond_BND, self.net.null_brain_embeds)
        if keep_image_B is not None:
            image_BND = torch.where(keep_image_B[:, None, None], image_BND, self.net.null_image_embed)
        return F.mse_loss(self.predict(image_BND, t_B, cond_BND), target_BND)


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
