"""The judge names colours on clean renderings after a short training, and those of another scene wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mindsight.encoders.demo import to_pixels
from mindsight.simulator.scenes import Scene, Shape, random_scenes, render_batch
from training.generator.judge import CROP_PX, Judge, crops, places, train_judge

SIZE_PX = 64


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(SIZE_PX, steps=25, batch=24)


@pytest.mark.slow
def test_a_short_training_is_already_better_than_chance(judge: Judge) -> None:
    """Chance is 1 of 90 for two different colours. Kinds take a hundred steps more."""
    scenes = random_scenes(np.random.default_rng(8), 100)
    images = render_batch(scenes, SIZE_PX)
    own = judge.judge(images, scenes).figures
    wrong = judge.judge(np.roll(images, 1, axis=0), scenes).figures
    assert own["both_backgrounds_right"] >= 0.3
    assert wrong["both_backgrounds_right"] <= 0.1


@pytest.mark.slow
def test_there_is_a_verdict_for_each_picture_and_each_shape(judge: Judge) -> None:
    scenes = random_scenes(np.random.default_rng(9), 5)
    verdict = judge.judge(render_batch(scenes, SIZE_PX), scenes)
    assert verdict.backgrounds_B.shape == (5,)
    assert verdict.kinds_S.shape == (sum(len(scene.shapes) for scene in scenes),)


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.25, 0.7), (0.8, 0.21)])
def test_a_crop_has_its_shape_in_the_middle(x: float, y: float) -> None:
    scene = Scene("white", "white", 0.5, (Shape("circle", "black", x, y, 0.2),))
    pixels = to_pixels(render_batch([scene], SIZE_PX))
    (crop,) = crops(pixels, *places([scene], SIZE_PX))
    assert crop.shape == (3, CROP_PX, CROP_PX)
    rows, columns = torch.nonzero(crop.mean(0) < -0.5, as_tuple=True)
    for middle in (rows.float().mean(), columns.float().mean()):
        assert abs(float(middle) - CROP_PX / 2) <= 1.0
