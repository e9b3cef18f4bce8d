"""The diffusion prior: brain tokens in, image tokens out, by predicting the clean tokens at each of a few noise levels.

Knows nothing of betas. Scotti et al. 2024, section 2.2; sampled as in the reference: raw token space, no scaling.

Axes: B batch, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.decoders.mindeye2.layout import Layout
from mindsight.decoders.mindeye2.prior_network import PriorNetwork, guide
from mindsight.decoders.mindeye2.sampler import Sampler
from mindsight.decoders.mindeye2.schedule import alphas_cumprod


class DiffusionPrior(nn.Module):
    """The network with its noise schedule. ``predict`` is one step, ``sample`` a whole trajectory."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.net = PriorNetwork(layout)

    def predict(self, noisy_BND: Tensor, t_B: Tensor, cond_BND: Tensor, cond_scale: float = 1.0) -> Tensor:
        """Clean image tokens (B, N, D) as the network sees them in ``noisy_BND`` at times ``t_B`` (0 to 99).

        ``cond_scale`` other than 1 is classifier-free guidance: null + scale · (conditional - null).
        """
        at, time_B1D = self.net.positions(), self.net.time_tokens(t_B)
        predicted: Tensor = self.net(noisy_BND, time_B1D, cond_BND, at)
        return predicted if cond_scale == 1.0 else guide(predicted, self.net.null(time_B1D, at), cond_scale)

    def predict_null(self, t_B: Tensor) -> Tensor:
        """The prediction without brain and image (B, N, D): a function of time alone."""
        return self.net.null(self.net.time_tokens(t_B), self.net.positions())

    @torch.inference_mode()
    def sample(
        self,
        cond_BND: Tensor,
        steps: int = 20,
        cond_scale: float = 1.0,
        noises: Iterable[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sample image tokens (B, N, D) for brain tokens.

        ``noises`` are the standard normal draws (B, N, D) in the order they are used: the start, then one per
        step but the last. Without them they come from ``generator`` (torch's global one if that is not given).
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
