"""The small teacher's recipe, with as little training as there can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight import assets
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.registry import load_generator
from mindsight.generators.unclip import load_unclip
from mindsight.retrieval.from_files import open_images
from training.distillation.examples import latents_of
from training.recipes.small_unclip import SIZE_PX, Recipe, make


@pytest.mark.slow
def test_it_writes_a_generator_of_the_demos_tokens_whose_latents_have_unit_scale(tmp_path: Path) -> None:
    make(tmp_path, Recipe(scenes=24, held_out=4, vae_steps=2, unet_steps=2))
    [space] = load_generator(tmp_path / "unclip").spaces.values()
    assert space == DemoEncoder.load(assets.ENCODER).space
    images = open_images(tmp_path / "scenes.h5", SIZE_PX)
    trained = np.stack([images.read(row) for row in range(20)])
    latents = latents_of(load_unclip(tmp_path / "unclip"), trained)
    # weights are kept in float16
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(16), atol=0.02, rtol=0.0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(16), atol=0.02, rtol=0.0)
