"""The whole model: ridge per subject, shared backbone, diffusion prior, under the reference's names.

Knows nothing of files; ``loading.py`` reads them. Scotti et al. 2024, "MindEye2: Shared-Subject Models Enable
fMRI-To-Image With 1 Hour of Data".

Axes: B batch, V voxels of one subject, H hidden, N tokens, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mindsight.decoders.mindeye2.backbone import Backbone
from mindsight.decoders.mindeye2.layout import Layout
from mindsight.decoders.mindeye2.prior import DiffusionPrior


class Tokens(NamedTuple):
    """The outputs of one pass. ``lowlevel`` is None if the checkpoint has no low-level head.

    backbone : (B, N, D), the prior's condition
    retrieval : (B, N, D), compared with image tokens by cosine, all tokens flattened
    lowlevel : (B, 4, 28, 28), a VAE latent
    """

    backbone: Tensor
    retrieval: Tensor
    lowlevel: Tensor | None


class Ridge(nn.Module):
    """One linear layer per subject into the shared latent. "Ridge" because weight decay is all that regularises it."""

    def __init__(self, voxels: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(n, hidden) for n in voxels)

    def forward(self, voxels_BV: Tensor, subject: int = 0) -> Tensor:
        latent_BH: Tensor = self.linears[subject](voxels_BV)
        return latent_BH


class MindEye2(nn.Module):
    """MindEye2 in full. Call ``eval()`` before decoding (``load_mindeye2`` does), and ``fold`` for speed."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.ridge = Ridge(layout.voxels, layout.hidden)
        self.backbone = Backbone(layout)
        self.diffusion_prior = DiffusionPrior(layout) if layout.prior else None

    @property
    def prior(self) -> DiffusionPrior | None:
        return self.diffusion_prior

    def tokens(self, voxels_BV: Tensor, subject: int = 0) -> Tokens:
        """Tokens of z-scored betas (B, V), voxels in the order of the subject's mask."""
        return self.tokens_of(self.ridge(voxels_BV, subject))

    def tokens_of(self, latent_BH: Tensor) -> Tokens:
        """Tokens of latents, which may come from several subjects' ridge layers."""
        mixed_BH = self.backbone.mix(latent_BH)
        backbone_BND = self.backbone.tokens(mixed_BH)
        lowlevel = self.backbone.lowlevel(mixed_BH) if self.layout.lowlevel else None
        return Tokens(backbone_BND, self.backbone.clip_proj(backbone_BND), lowlevel)
