"""Gradient steps: they learn, they go on after an interruption to the same bits, and a worse model is never kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.decoders.mindeye2 import Layout, MindEye2
from mindsight.retrieval import CandidatePool
from support.invented_visit import DIM, N_TOKENS, V, images, responses
from training.calibration.fine_tuning import fine_tune
from training.calibration.gradient import GradientSteps, Look, Material, Recipe, random_model
from training.calibration.heads import BackboneHead
from training.calibration.left_out import Images, Way

LIKE = Layout(voxels=(N_TOKENS * DIM,), hidden=16, tokens=N_TOKENS, dim=DIM, n_blocks=1)
RECIPE = Recipe(steps=24, batch=32, learning_rate=3e-3, look_every=6, patience=9)


@pytest.fixture(scope="module")
def material() -> Material:
    tokens, rng = images(3, 80), np.random.default_rng(3)
    z_KV = responses(4, tokens) + 0.5 * rng.normal(size=(80, V))
    return Material(z_KV.astype(np.float32), np.arange(80), tokens)


def model() -> MindEye2:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return random_model(MindEye2(LIKE), V, 0)


def weights(trained: MindEye2) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in trained.parameters()])


def test_it_goes_on_after_an_interruption_to_the_same_bits(material: Material, tmp_path: Path) -> None:
    scores = iter([3.0, 2.0, 1.0, 0.5, 0.4])
    whole = model()
    list(GradientSteps(whole, material, RECIPE, lambda _: next(scores)))
    scores, file = iter([3.0, 2.0, 1.0, 0.5, 0.4]), tmp_path / "steps.safetensors"
    for look in GradientSteps(model(), material, RECIPE, lambda _: next(scores), file):
        if look.step == 12:
            break
    resumed = model()
    steps = GradientSteps(resumed, material, RECIPE, lambda _: next(scores), file)
    assert [look.step for look in steps] == [18, 24]
    assert torch.equal(weights(resumed), weights(whole))


def test_it_keeps_the_best_look_and_stops_when_nothing_gets_better(material: Material) -> None:
    losses, start = iter([3.0, 1.0, 2.0, 2.0]), model()
    steps = GradientSteps(start, material, Recipe(steps=60, batch=32, look_every=6, patience=2), lambda _: next(losses))
    assert [look.step for look in steps] == [0, 6, 12, 18]
    assert steps.best == Look(6, 1.0)
    again = model()
    list(GradientSteps(again, material, Recipe(steps=60, batch=32, look_every=6), lambda _: 0.0, until=6))
    assert torch.equal(weights(start), weights(again))


@pytest.mark.slow
def test_fine_tuning_replaces_the_closed_form_only_if_it_is_better_on_images_left_out(material: Material) -> None:
    """A backbone with random weights: its closed form is at chance, and steps make it better."""
    head = BackboneHead(MindEye2(LIKE).eval())
    pool = CandidatePool(tuple(map(str, range(80))), material.tokens_KND)
    known = Images(pool, head.targets(pool))
    way = Way("ridge", False, 100.0)
    recipe = Recipe(steps=60, batch=48, learning_rate=5e-3, look_every=20)
    better = fine_tune(head, known, material.z_KV, material.image_K, way, recipe)
    assert better is not None
    assert better.gain.interval[0] > 0.0
    assert better.model is not None
    noise = np.random.default_rng(0).normal(size=material.z_KV.shape).astype(np.float32)
    none = fine_tune(head, known, noise, material.image_K, way, recipe)
    assert none is not None
    assert none.model is None
    assert none.gain.interval[0] <= 0.0
    assert fine_tune(head, known, noise, material.image_K, way, recipe, report=lambda look, _: look.step < 20) is None
