"""Tokens as a brain gives them: what the prior makes of decoded latents, for any number of new scenes.

Without a simulated scan for each scene: latents get the errors that were measured (``LatentErrors``), and the prior's
first evaluation stands for the mean of many of its samples, which it is in exact arithmetic.

Axes: B scenes, N tokens, D channels of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2
from mindsight.decoders.mindeye2.schedule import TIMESTEPS
from training.pretraining.errors import LatentErrors
from training.pretraining.mindeye import latents

LEAST_ERRORS, MOST_ERRORS = 0.9, 1.5  # of a new visit, over those of a visit's own left-out trials


@dataclass(frozen=True, eq=False)
class Brain:
    """The shared decoder, and the errors of the latents that it is given."""

    model: MindEye2
    errors: LatentErrors

    @torch.no_grad()
    def condition(self, tokens_BND: Tensor, generator: torch.Generator) -> Tensor:
        """(B, N, D) backbone tokens, the prior's condition, of trials that show scenes with these tokens."""
        level_B = LEAST_ERRORS + (MOST_ERRORS - LEAST_ERRORS) * torch.rand(len(tokens_BND), generator=generator)
        decoded_BH = self.errors.draw(latents(self.model, tokens_BND.float()), level_B, generator)
        return self.model.tokens_of(decoded_BH).backbone

    @torch.no_grad()
    def __call__(self, tokens_BND: Tensor, generator: torch.Generator) -> Tensor:
        """(B, N, D) refined tokens of such trials."""
        assert self.model.prior is not None
        condition_BND = self.condition(tokens_BND, generator)
        noise_BND = torch.randn(condition_BND.shape, generator=generator)
        last_B = torch.full((len(condition_BND),), TIMESTEPS - 1)
        return self.model.prior.predict(noise_BND, last_B, condition_BND)
