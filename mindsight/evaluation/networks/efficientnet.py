"""EfficientNet-B1 (Tan and Le, ICML 2019: the B0 stages, 1.1 times as deep) up to its average pool.

Knows nothing of files. Keys as in torchvision's ``efficientnet_b1``; the classifier is not built.
"""

from __future__ import annotations

from torch import Tensor, nn

from mindsight.evaluation.networks.layers import SqueezeExcitation, conv_norm_silu

# expansion, kernel, stride, outputs, blocks
_STAGES = (
    (1, 3, 1, 16, 2),
    (6, 3, 2, 24, 3),
    (6, 5, 2, 40, 3),
    (6, 3, 2, 80, 4),
    (6, 5, 1, 112, 4),
    (6, 5, 2, 192, 5),
    (6, 3, 1, 320, 2),
)


class MBConv(nn.Module):
    """Widen, convolve each channel by itself, weigh the channels, project; beside an identity where shapes allow."""

    def __init__(self, expansion: int, kernel: int, stride: int, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = [conv_norm_silu(inputs, wide, 1)] if expansion > 1 else []
        layers += [
            conv_norm_silu(wide, wide, kernel, stride, groups=wide),
            SqueezeExcitation(wide, max(1, inputs // 4)),
            conv_norm_silu(wide, outputs, 1, activation=False),
        ]
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.block(x_BCHW)
        return x_BCHW + out if self.residual else out


class EfficientNetB1(nn.Module):
    """Pictures (B, 3, H, W), ImageNet-normalised, to 1,280 pooled features."""

    def __init__(self) -> None:
        super().__init__()
        layers = [conv_norm_silu(3, 32, 3, 2)]
        inputs = 32
        for expansion, kernel, stride, outputs, blocks in _STAGES:
            stage = [MBConv(expansion, kernel, stride, inputs, outputs)]
            stage += [MBConv(expansion, kernel, 1, outputs, outputs) for _ in range(blocks - 1)]
            layers.append(nn.Sequential(*stage))
            inputs = outputs
        self.features = nn.Sequential(*layers, conv_norm_silu(inputs, 1280, 1))

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        return {"avgpool": self.features(pixels_B3HW).mean((2, 3))}
