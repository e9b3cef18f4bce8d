"""A judge of pictures: which colours sky and ground have, and which shape stands at a place.

Trained on clean renderings for a few minutes, never on generated pictures. Its own accuracy on new renderings is the
ceiling of every figure that it gives.

Axes: B pictures, S shapes of all of them, H and W pixels, C colours, K kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mindsight.encoders.demo import to_pixels
from mindsight.simulator.scenes import COLOURS, KINDS, Scene, random_scenes, render_batch

CROP_PX = 40  # the largest shape is 36 pixels wide
SHIFT_PX = 3  # a shape that stands this far from its place is still judged
NOTHING = len(KINDS)  # the judge's answer where no shape is
TRAINING_SEED, TEST_SEED = 3_000_003, 4_000_003


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether pictures are right: (B,) both background colours, (S,) the kind of each shape at its place."""

    backgrounds_B: NDArray[np.bool_]
    kinds_S: NDArray[np.bool_]

    @property
    def figures(self) -> dict[str, float]:
        return {
            "both_backgrounds_right": float(self.backgrounds_B.mean()),
            "shape_kind_right": float(self.kinds_S.mean()),
        }


class Judge(nn.Module):
    """Two small convolutional networks; made by ``train_judge``."""

    def __init__(self, image_px: int) -> None:
        super().__init__()
        self.image_px = image_px
        self.colours = _network(image_px, 2 * len(COLOURS))
        self.kinds = _network(CROP_PX, len(KINDS) + 1)

    @torch.inference_mode()
    def judge(self, images_BHW3: NDArray[np.uint8], scenes: Sequence[Scene]) -> Verdict:
        """Compare pictures with the scenes that they should show."""
        pixels_B3HW = to_pixels(images_BHW3)
        named_B2 = self.colours(pixels_B3HW).unflatten(1, (2, len(COLOURS))).argmax(2)
        named_S = self.kinds(crops(pixels_B3HW, *places(scenes, self.image_px))).argmax(1)
        return Verdict(
            (named_B2 == backgrounds(scenes)).all(1).numpy(),
            (named_S == kinds(scenes)).numpy(),
        )


def _network(size_px: int, n_answers: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU()]
    for inner, outer in ((24, 48), (48, 64)):
        layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(64 * (size_px // 8) ** 2, 64), nn.ReLU(), nn.Linear(64, n_answers)
    )


def backgrounds(scenes: Sequence[Scene]) -> Tensor:
    """(B, 2) colours of sky and ground, as numbers."""
    return torch.tensor([[COLOURS.index(scene.sky), COLOURS.index(scene.ground)] for scene in scenes])


def kinds(scenes: Sequence[Scene]) -> Tensor:
    """(S,) kinds of the shapes, scene by scene, as numbers."""
    return torch.tensor([KINDS.index(shape.kind) for scene in scenes for shape in scene.shapes])


def places(scenes: Sequence[Scene], image_px: int) -> tuple[Tensor, Tensor]:
    """(S,) the picture of each shape, and (S, 2) the pixel at its centre: row, column."""
    of_S = torch.tensor([b for b, scene in enumerate(scenes) for _ in scene.shapes])
    at_S2 = torch.tensor([[shape.y, shape.x] for scene in scenes for shape in scene.shapes]) * image_px
    return of_S, at_S2.long()


def crops(pixels_B3HW: Tensor, of_S: Tensor, at_S2: Tensor) -> Tensor:
    """(S, 3, CROP_PX, CROP_PX) squares around these places; the picture's edge is repeated beyond it."""
    half = CROP_PX // 2
    padded_B3HW = functional.pad(pixels_B3HW, (half, half, half, half), mode="replicate")
    windows = zip(of_S.tolist(), at_S2.tolist(), strict=True)
    return torch.stack([padded_B3HW[b, :, y : y + CROP_PX, x : x + CROP_PX] for b, (y, x) in windows])


def train_judge(image_px: int, *, steps: int = 1500, batch: int = 64, seed: int = 0) -> Judge:
    """A judge trained on ``steps`` batches of new renderings."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([TRAINING_SEED, seed])
    judge = Judge(image_px)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for _ in range(steps):
        loss = _loss(judge, random_scenes(rng, batch))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return judge.eval()


def _loss(judge: Judge, scenes: list[Scene]) -> Tensor:
    pixels_B3HW = to_pixels(render_batch(scenes, judge.image_px))
    of_S, at_S2 = places(scenes, judge.image_px)
    near_S2 = at_S2 + torch.randint(-SHIFT_PX, SHIFT_PX + 1, at_S2.shape)
    empty_B2 = torch.randint(0, judge.image_px, (len(scenes), 2))
    distance_BS = (empty_B2[:, None] - at_S2[None]).abs().amax(2)
    taken_BS = torch.arange(len(scenes))[:, None] == of_S[None]
    free_B = ~((distance_BS < CROP_PX // 2) & taken_BS).any(1)  # at least half a square away from every shape
    of_X = torch.cat([of_S, torch.arange(len(scenes))[free_B]])
    at_X2 = torch.cat([near_S2, empty_B2[free_B]]).clamp(0, judge.image_px - 1)
    answers_X = torch.cat([kinds(scenes), torch.full((int(free_B.sum()),), NOTHING)])
    named_B2C = judge.colours(pixels_B3HW).unflatten(1, (2, len(COLOURS)))
    return functional.cross_entropy(named_B2C.flatten(0, 1), backgrounds(scenes).flatten()) + functional.cross_entropy(
        judge.kinds(crops(pixels_B3HW, of_X, at_X2)), answers_X
    )


def own_accuracy(judge: Judge, n_scenes: int = 500) -> dict[str, float]:
    """Share of clean renderings that the judge names right, on scenes it has not seen."""
    scenes = random_scenes(np.random.default_rng(TEST_SEED), n_scenes)
    return judge.judge(render_batch(scenes, judge.image_px), scenes).figures
