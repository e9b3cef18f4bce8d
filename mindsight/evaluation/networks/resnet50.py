"""ResNet-50 (He et al., CVPR 2016; stride in the 3x3 convolution) up to its average pool: SwAV's backbone.

Knows nothing of files. Keys as in torchvision's ``resnet50``, which SwAV's published weights follow; the classifier is
not built.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width, beside an identity (or a projection where the shape changes)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Sequential()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(x_BCHW)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        return functional.relu(self.bn3(self.conv3(hidden)) + self.downsample(x_BCHW))


class ResNet50(nn.Module):
    """Pictures (B, 3, H, W), ImageNet-normalised, to 2,048 pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, (width, blocks, stride) in enumerate(_STAGES, start=1):
            layers = [Bottleneck(inputs, width, stride)]
            layers += [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*layers))
            inputs = 4 * width

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        hidden = self.maxpool(functional.relu(self.bn1(self.conv1(pixels_B3HW))))
        for number in range(1, len(_STAGES) + 1):
            hidden = self.get_submodule(f"layer{number}")(hidden)
        return {"avgpool": hidden.mean((2, 3))}
