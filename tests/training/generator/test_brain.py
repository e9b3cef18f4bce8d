"""Tokens as a brain gives them, of the shared decoder that ships, and the U-Net that is continued on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mindsight import assets
from mindsight.decoders.mindeye2 import MindEye2, load_mindeye2
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.simulator.scenes import random_scenes, render_batch
from training.generator.brain import Brain
from training.generator.train import DECODED_SHARE, UnetTraining
from training.pretraining.errors import LatentErrors
from training.pretraining.mindeye import latents


@pytest.fixture(scope="module")
def model() -> MindEye2:
    return load_mindeye2(assets.MINDEYE2 / "mindeye2.safetensors").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    scenes = random_scenes(np.random.default_rng(6), 40)
    return torch.from_numpy(DemoEncoder.load(assets.ENCODER).encode(render_batch(scenes, 64)))


def brain_with(model: MindEye2, tokens: Tensor, noise: float) -> Brain:
    """Latents are decoded without bias; errors have this share of their deviation, the same in all directions."""
    true_BH = latents(model, tokens)
    width = true_BH.shape[1]
    errors = LatentErrors(true_BH.mean(0), true_BH.mean(0), torch.eye(width), noise * true_BH.std() * torch.eye(width))
    return Brain(model, errors)


def test_refined_tokens_are_those_of_the_scene_and_errors_take_them_away(model: MindEye2, tokens: Tensor) -> None:
    errors = []
    for noise in (0.0, 0.5, 2.0):
        refined = brain_with(model, tokens, noise)(tokens, torch.Generator().manual_seed(0))
        errors.append(float((refined - tokens).square().mean()))
        assert float((refined - tokens.roll(1, 0)).square().mean()) > errors[-1]
    assert errors == sorted(errors)
    assert errors[0] < 0.5 * float((tokens - tokens.mean(0)).square().mean())


def test_the_unet_goes_on_from_the_one_that_ships_on_a_share_of_decoded_tokens(model: MindEye2, tokens: Tensor) -> None:
    generator = DemoGenerator.load(assets.GENERATOR)
    training = UnetTraining(DemoEncoder.load(assets.ENCODER), generator.config, batch=4, seed=1)
    fresh = training.loss().item()
    training.read_brain(brain_with(model, tokens, 0.1), assets.DEMO)
    assert training.loss().item() < 0.5 * fresh
    given_BND = training._given(tokens)
    assert given_BND.shape == tokens.shape
    training.brain = brain_with(model, tokens, 50.0)
    moved_B = (training._given(tokens) - tokens).square().mean((1, 2))
    n_decoded = round(DECODED_SHARE * len(tokens))
    assert moved_B[:n_decoded].mean() > 1.5 * moved_B[n_decoded:].mean()
