"""Inception v3 (Szegedy et al., CVPR 2016) up to its average pool.

Knows nothing of files. Keys as in torchvision's ``inception_v3``; the classifier and the auxiliary head are not built.

Each block is data: its branches as chains of (kernel, outputs), run side by side and joined along the channels.
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional

from mindsight.evaluation.networks.layers import ConvBN, Pair

Chain = tuple[tuple[str, Pair, int], ...]  # key, kernel, outputs
_ROW, _COLUMN = (1, 7), (7, 1)


class Mixed(nn.Module):
    """Branches of convolutions side by side, and one behind a pool.

    ``shrink``: the last convolution of every branch has stride 2 and no padding, and the pool is a maximum that is
    passed on as it is; otherwise the pool is an average with a convolution (``branch_pool``) behind it.
    """

    def __init__(self, inputs: int, branches: tuple[Chain, ...], pooled: int = 0) -> None:
        super().__init__()
        self.shrink = pooled == 0
        self.chains = [[key for key, _, _ in chain] for chain in branches]
        for chain in branches:
            channels = inputs
            for place, (key, kernel, outputs) in enumerate(chain, start=1):
                stride = 2 if self.shrink and place == len(chain) else 1
                padding = 0 if stride == 2 else _same(kernel)
                self.add_module(key, ConvBN(channels, outputs, kernel, stride, padding))
                channels = outputs
        if not self.shrink:
            self.branch_pool = ConvBN(inputs, pooled, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        joined = []
        for chain in self.chains:
            hidden = x_BCHW
            for key in chain:
                hidden = self.get_submodule(key)(hidden)
            joined.append(hidden)
        if self.shrink:
            joined.append(functional.max_pool2d(x_BCHW, 3, 2))
        else:
            joined.append(self.branch_pool(functional.avg_pool2d(x_BCHW, 3, 1, 1)))
        return cat(joined, 1)


class MixedSplit(nn.Module):
    """The last blocks: two branches end in a 1x3 and a 3x1 convolution side by side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(inputs, 320, 1)
        self.branch3x3_1 = ConvBN(inputs, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBN(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvBN(inputs, 192, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        single = self.branch3x3_1(x_BCHW)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x_BCHW))
        return cat(
            [
                self.branch1x1(x_BCHW),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(functional.avg_pool2d(x_BCHW, 3, 1, 1)),
            ],
            1,
        )


class InceptionV3(nn.Module):
    """Pictures (B, 3, H, W), ImageNet-normalised, to 2,048 pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3)
        for key, inputs, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            self.add_module(f"Mixed_{key}", Mixed(inputs, _block_a(), pooled))
        self.Mixed_6a = Mixed(288, _block_b())
        for key, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            self.add_module(f"Mixed_{key}", Mixed(768, _block_c(width), 192))
        self.Mixed_7a = Mixed(768, _block_d())
        self.Mixed_7b = MixedSplit(1280)
        self.Mixed_7c = MixedSplit(2048)

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        # these weights were trained on pixels in [-1, 1]: undo ImageNet's mean and deviation
        mean, std = pixels_B3HW.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
        hidden = (pixels_B3HW * std + mean - 0.5) / 0.5
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(hidden)))
        hidden = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(hidden, 3, 2)))
        hidden = functional.max_pool2d(hidden, 3, 2)
        for key in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            hidden = self.get_submodule(f"Mixed_{key}")(hidden)
        return {"avgpool": hidden.mean((2, 3))}


def _block_a() -> tuple[Chain, ...]:
    return (
        (("branch1x1", 1, 64),),
        (("branch5x5_1", 1, 48), ("branch5x5_2", 5, 64)),
        (("branch3x3dbl_1", 1, 64), ("branch3x3dbl_2", 3, 96), ("branch3x3dbl_3", 3, 96)),
    )


def _block_b() -> tuple[Chain, ...]:
    return (
        (("branch3x3", 3, 384),),
        (("branch3x3dbl_1", 1, 64), ("branch3x3dbl_2", 3, 96), ("branch3x3dbl_3", 3, 96)),
    )


def _block_c(width: int) -> tuple[Chain, ...]:
    return (
        (("branch1x1", 1, 192),),
        (("branch7x7_1", 1, width), ("branch7x7_2", _ROW, width), ("branch7x7_3", _COLUMN, 192)),
        (
            ("branch7x7dbl_1", 1, width),
            ("branch7x7dbl_2", _COLUMN, width),
            ("branch7x7dbl_3", _ROW, width),
            ("branch7x7dbl_4", _COLUMN, width),
            ("branch7x7dbl_5", _ROW, 192),
        ),
    )


def _block_d() -> tuple[Chain, ...]:
    return (
        (("branch3x3_1", 1, 192), ("branch3x3_2", 3, 320)),
        (
            ("branch7x7x3_1", 1, 192),
            ("branch7x7x3_2", _ROW, 192),
            ("branch7x7x3_3", _COLUMN, 192),
            ("branch7x7x3_4", 3, 192),
        ),
    )


def _same(kernel: Pair) -> Pair:
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
