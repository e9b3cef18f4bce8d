"""From the latent that subjects share to tokens: mixer blocks, ``backbone_linear``, ``clip_proj``, low-level head.

Knows nothing of subjects or of the prior. Module names are the reference's, so that its checkpoints load unchanged.

Axes: B batch, S sequence (always one time point), H hidden, N tokens, D channels of a token.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mindsight.decoders.mindeye2.layout import Layout

_MAP_CHANNELS, _MAP_SIDE, _AUX_CHANNELS = 64, 7, 512


class Backbone(nn.Module):
    """The shared trunk in its full form, as it is trained and as the released files hold it.

    The mixer blocks are kept because checkpoints carry their weights. With a sequence of one they have no effect:
    a LayerNorm over one element returns its bias, so every block resets the latent to its input plus a constant
    (``mixer_constant``). Sessions run the folded form (``folded.py``), which has none of them.
    """

    def __init__(self, layout: Layout, dropout: float = 0.15) -> None:
        super().__init__()
        self.layout = layout
        self.mixer_blocks1 = nn.ModuleList(Mixer(layout.hidden, dropout) for _ in range(layout.n_blocks))
        self.mixer_blocks2 = nn.ModuleList(Mixer(1, dropout) for _ in range(layout.n_blocks))
        self.backbone_linear = nn.Linear(layout.hidden, layout.tokens * layout.dim)
        self.clip_proj = nn.Sequential(*_projection(layout.dim), *_projection(layout.dim), *_projection(layout.dim))
        if layout.lowlevel:
            from diffusers.models.autoencoders.vae import Decoder

            self.blin1 = nn.Linear(layout.hidden, _MAP_CHANNELS * _MAP_SIDE**2)
            self.bdropout = nn.Dropout(0.3)
            self.bnorm = nn.GroupNorm(1, _MAP_CHANNELS)
            self.bupsampler = Decoder(
                in_channels=_MAP_CHANNELS,
                out_channels=4,
                up_block_types=("UpDecoderBlock2D",) * 3,
                block_out_channels=(32, 64, 128),
                layers_per_block=1,
            )
            self.b_maps_projector = nn.Sequential(
                nn.Conv2d(_MAP_CHANNELS, _AUX_CHANNELS, 1, bias=False),
                nn.GroupNorm(1, _AUX_CHANNELS),
                nn.ReLU(),
                nn.Conv2d(_AUX_CHANNELS, _AUX_CHANNELS, 1, bias=False),
                nn.GroupNorm(1, _AUX_CHANNELS),
                nn.ReLU(),
                nn.Conv2d(_AUX_CHANNELS, _AUX_CHANNELS, 1),
            )

    def mix(self, latent_BH: Tensor) -> Tensor:
        """The mixer blocks as the reference runs them: channels, then sequence, each with its own residual track."""
        x_BSH = latent_BH[:, None]
        skip1_BSH, skip2_BHS = x_BSH, x_BSH.transpose(1, 2)
        for block1, block2 in zip(self.mixer_blocks1, self.mixer_blocks2, strict=True):
            skip1_BSH = block1(x_BSH) + skip1_BSH
            skip2_BHS = block2(skip1_BSH.transpose(1, 2)) + skip2_BHS
            x_BSH = skip2_BHS.transpose(1, 2)
        return x_BSH[:, 0]

    def mixer_constant(self) -> Tensor:
        """The constant that all mixer blocks together add to the latent, without dropout (float64 scalar)."""
        constants = (cast(Mixer, block).of_one_element() for block in self.mixer_blocks2)
        return sum(constants, start=torch.zeros((), dtype=torch.float64))

    def tokens(self, mixed_BH: Tensor) -> Tensor:
        """Backbone tokens (B, N, D), the prior's condition, from the mixed latent."""
        tokens_BX: Tensor = self.backbone_linear(mixed_BH)
        return tokens_BX.reshape(-1, self.layout.tokens, self.layout.dim)

    def lowlevel(self, mixed_BH: Tensor) -> Tensor:
        """The blurry image's VAE latent (B, 4, 28, 28), scaled by 0.18215 as trained."""
        latent: Tensor = self.bupsampler(self._map(mixed_BH))
        return latent

    def lowlevel_aux(self, mixed_BH: Tensor) -> Tensor:
        """The contrastive features of the low-level head (B, 49, 512); training alone uses them."""
        maps: Tensor = self.b_maps_projector(self._map(mixed_BH))
        return maps.flatten(2).transpose(1, 2)

    def lowlevel_both(self, mixed_BH: Tensor) -> tuple[Tensor, Tensor]:
        """``lowlevel`` and ``lowlevel_aux`` of one map, with one draw of dropout."""
        map_BCXX = self._map(mixed_BH)
        latent: Tensor = self.bupsampler(map_BCXX)
        maps: Tensor = self.b_maps_projector(map_BCXX)
        return latent, maps.flatten(2).transpose(1, 2)

    def _map(self, mixed_BH: Tensor) -> Tensor:
        flat: Tensor = self.bdropout(self.blin1(mixed_BH))
        normed: Tensor = self.bnorm(flat.reshape(-1, _MAP_CHANNELS, _MAP_SIDE, _MAP_SIDE))
        return normed


class Mixer(nn.Sequential):
    """LayerNorm and a two-layer MLP of one width; dropout, which has no weights, keeps the reference's numbering."""

    def __init__(self, width: int, dropout: float) -> None:
        inner, outer = nn.Linear(width, width), nn.Linear(width, width)
        super().__init__(nn.LayerNorm(width), nn.Sequential(inner, nn.GELU(), nn.Dropout(dropout), outer))

    def of_one_element(self) -> Tensor:
        """The output at width one, for any input: the norm's bias through the MLP (float64 scalar)."""
        _, norm_bias, w0, b0, w3, b3 = (parameter.detach().double().cpu().flatten() for parameter in self.parameters())
        return (w3 * nn.functional.gelu(w0 * norm_bias + b0) + b3)[0]


def _projection(dim: int) -> tuple[nn.Module, ...]:
    return nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim)
