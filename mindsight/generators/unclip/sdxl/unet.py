"""The SDXL U-Net as diffusers' class, at any size, and the one call that samplers and engines make.

Knows nothing of files, samplers or images. The vector beside the tokens goes through diffusers' *projection* form
(``class_labels``): it computes what ``text_time`` does, and leaves no sines or text in the graph, so that the released
unCLIP (vector of 1,024) and SDXL's base (2,816) are one class.

Letters: B latents, C channels of a latent or of the vector, H and W, N tokens, K keys and values of all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mindsight.generators.unclip.sdxl.cross_attention import reading_keys_values


@dataclass(frozen=True, kw_only=True, slots=True)
class UnetLayout:
    """Every dimension of an SDXL U-Net; the default is the released unCLIP (Scotti et al. 2024, ``unclip6``).

    widths : channels at each resolution, each a multiple of 32
    depths : transformer blocks at each resolution; 0 if there is no attention
    head_dim : width of an attention head; shapes do not show it
    resnets : residual blocks at each resolution on the way down
    token_dim, vector_dim : of the conditioning
    """

    widths: tuple[int, ...] = (320, 640, 1280)
    depths: tuple[int, ...] = (0, 2, 10)
    head_dim: int = 64
    resnets: int = 2
    token_dim: int = 1664
    vector_dim: int = 1024
    channels: int = 4

    def to_diffusers(self) -> dict[str, Any]:
        """Arguments of diffusers' ``UNet2DConditionModel``."""

        def kinds(attends: str, plain: str) -> tuple[str, ...]:
            return tuple(attends if depth else plain for depth in self.depths)

        return {
            "in_channels": self.channels,
            "out_channels": self.channels,
            "block_out_channels": self.widths,
            "layers_per_block": self.resnets,
            "down_block_types": kinds("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": kinds("CrossAttnUpBlock2D", "UpBlock2D")[::-1],
            "transformer_layers_per_block": tuple(max(depth, 1) for depth in self.depths),
            "attention_head_dim": tuple(width // self.head_dim for width in self.widths),  # their name for heads
            "cross_attention_dim": self.token_dim,
            "use_linear_projection": True,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": self.vector_dim,
        }


def build_unet(layout: UnetLayout) -> Any:
    """A ``UNet2DConditionModel`` with weights drawn at random."""
    from diffusers import UNet2DConditionModel  # seconds of import, for those who generate only

    return UNet2DConditionModel(**layout.to_diffusers())


class Denoiser(nn.Module):
    """One evaluation of the U-Net: four tensors in, the prediction in the latent's shape out.

    It shares its weights with the U-Net that it is made of, which still takes tokens.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = reading_keys_values(unet)

    def forward(self, latent_BCHW: Tensor, timestep_B: Tensor, keys_values_BNK: Tensor, vector_BC: Tensor) -> Tensor:
        """The predicted noise (B, C, H, W). All in the weights' dtype but ``timestep_B``, which is float32.

        keys_values_BNK : of the tokens, by ``KeysValues``
        """
        prediction: Tensor = self.unet(
            latent_BCHW, timestep_B, encoder_hidden_states=keys_values_BNK, class_labels=vector_BC, return_dict=False
        )[0]
        return prediction
