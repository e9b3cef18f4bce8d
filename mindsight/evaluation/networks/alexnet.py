"""AlexNet (Krizhevsky, arXiv:1404.5997, the one-tower form) up to its last convolution: AlexNet(2) and AlexNet(5).

Knows nothing of files. Keys as in torchvision's ``alexnet``; the classifier is not built.
"""

from __future__ import annotations

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Pictures (B, 3, H, W), ImageNet-normalised, to the rectified maps of the second and the fifth convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        second = self.features[:5](pixels_B3HW)
        return {"features.4": second, "features.11": self.features[5:](second)}
