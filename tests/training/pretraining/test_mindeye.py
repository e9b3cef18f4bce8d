"""Pretraining and calibration in seconds: the real recipe at a tiny size, on participants made of random numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mindsight.decoders.mindeye2 import MindEye2, PriorLayout, fold, load_mindeye2
from mindsight.errors import ModelMismatch
from training.pretraining.demo_decoder import shared_weights
from training.pretraining.mindeye import Config, Recipe, Seen, finetune, pretrain

CONFIG = Config(
    hidden=24,
    prior=PriorLayout(depth=2, heads=2, dim_head=16, inner=32),
    session_trials=(60, 120),
    pretraining=Recipe(steps=400, batch=96, prior_batch=48, learning_rate=3e-3),
    fine_tuning=Recipe(steps=20, batch=64, prior_batch=16, learning_rate=3e-4),
)
N, D, FACTORS, VOXELS, POOL = 4, 16, 10, 90, 50


def pictures(seed: int, n: int) -> Tensor:
    """Tokens that a few hidden factors make, layer-normalised like the encoder's."""
    mapping = torch.randn(FACTORS, N * D, generator=torch.Generator().manual_seed(0))
    factors = torch.randn(n, FACTORS, generator=torch.Generator().manual_seed(seed))
    return F.layer_norm(torch.tanh(factors @ mapping / 2).unflatten(1, (N, D)), (D,))


def person(seed: int, tokens_KND: Tensor, noise_seed: int) -> Seen:
    weights = torch.randn(N * D, VOXELS, generator=torch.Generator().manual_seed(1000 + seed)) / 8
    clean = tokens_KND.flatten(1) @ weights
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(noise_seed))
    return Seen((clean + 1.5 * noise) / 1.8, tokens_KND)


def top1(model: MindEye2, test: Seen) -> int:
    """Hits of 200, four pools of 50: chance is 4."""
    found = F.normalize(fold(model).tokens(test.betas_KV).retrieval.flatten(1), dim=1).split(POOL)
    sought = F.normalize(test.tokens_KND.flatten(1), dim=1).split(POOL)
    return sum(int(((f @ s.T).argmax(1) == torch.arange(POOL)).sum()) for f, s in zip(found, sought, strict=True))


@pytest.fixture(scope="module")
def shared_model() -> MindEye2:
    return pretrain([person(seed, pictures(seed, 300), seed) for seed in (1, 2, 3)], CONFIG, seed=0)


@pytest.fixture(scope="module")
def calibration() -> Seen:
    return person(9, pictures(20, 120), 21)


@pytest.fixture(scope="module")
def test_trials() -> Seen:
    return person(9, pictures(30, 200), 31)


@pytest.fixture(scope="module")
def fitted(shared_model: MindEye2, calibration: Seen) -> MindEye2:
    return finetune(shared_model, *calibration, CONFIG, seed=0)


@pytest.mark.slow
def test_a_new_participant_is_decoded(fitted: MindEye2, test_trials: Seen) -> None:
    assert fitted.layout.voxels == (VOXELS,)
    assert top1(fitted, test_trials) > 60


@pytest.mark.slow
def test_shuffled_pairs_leave_it_at_chance(shared_model: MindEye2, calibration: Seen, test_trials: Seen) -> None:
    order = torch.randperm(120, generator=torch.Generator().manual_seed(3))
    fitted = finetune(shared_model, calibration.betas_KV, calibration.tokens_KND[order], CONFIG, seed=0)
    # 4 of 200 expected; more than 13 happens once in ten thousand
    assert top1(fitted, test_trials) <= 13


@pytest.mark.slow
def test_the_prior_learns_what_images_look_like(fitted: MindEye2, test_trials: Seen) -> None:
    assert fitted.prior is not None
    condition = fold(fitted).tokens(test_trials.betas_KV).backbone
    drawn = fitted.prior.sample(condition, generator=torch.Generator().manual_seed(0))
    others = drawn.roll(1, 0)
    target = test_trials.tokens_KND
    assert F.mse_loss(drawn, target) < 0.8 * F.mse_loss(others, target)


@pytest.mark.slow
def test_seeded_and_deterministic(shared_model: MindEye2, fitted: MindEye2, calibration: Seen) -> None:
    before = [parameter.clone() for parameter in shared_model.parameters()]
    state = torch.get_rng_state()
    again, other = (finetune(shared_model, *calibration, CONFIG, seed) for seed in (0, 6))
    assert all(torch.equal(a, b) for a, b in zip(fitted.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(fitted.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, shared_model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_pretraining_is_deterministic() -> None:
    short = replace(CONFIG, pretraining=replace(CONFIG.pretraining, steps=4))
    first, second = (pretrain([person(1, pictures(1, 130), 1)], short, seed=2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.slow
def test_shared_weights_calibrate_as_the_pretrained_model_does(
    shared_model: MindEye2, fitted: MindEye2, calibration: Seen
) -> None:
    kept = load_mindeye2(shared_weights(shared_model))
    assert kept.layout == shared_model.layout
    ours = finetune(kept, *calibration, CONFIG, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), fitted.parameters(), strict=True))


def test_a_model_without_an_image_layer_is_refused(model: MindEye2) -> None:
    with pytest.raises(ModelMismatch, match="reads the 416 numbers of an image's tokens, got one that reads 37"):
        finetune(model, torch.zeros(3, 5), torch.zeros(3, 4, 104), CONFIG, seed=0)
