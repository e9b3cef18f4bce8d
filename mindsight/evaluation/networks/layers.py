"""What the feature networks are built of, with the attribute names of the published state dicts.

Knows nothing of any one network. Axes: B pictures, C channels, H and W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Pair = int | tuple[int, int]


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, ReLU: keys ``conv`` and ``bn`` (Inception)."""

    def __init__(self, inputs: int, outputs: int, kernel: Pair, stride: int = 1, padding: Pair = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x_BCHW)))


def conv_norm_silu(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm, SiLU unless it projects: keys ``0`` and ``1`` (EfficientNet)."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if activation else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Scale each channel by what the mean of all channels says (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale: Tensor = self.fc2(functional.silu(self.fc1(x_BCHW.mean((2, 3), keepdim=True))))
        return x_BCHW * scale.sigmoid()
