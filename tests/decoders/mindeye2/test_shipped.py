"""The shared decoder that ships with the demo: what its manifest says, and fit for calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import mindsight
from mindsight.decoders.mindeye2 import MindEye2, Sampler, fold, load_mindeye2
from mindsight.encoders.demo import DemoEncoder
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.weights.artefact import read_artefact
from training.pretraining.mindeye import Config, finetune

DEMO = Path(mindsight.__file__).parent / "assets/demo"


@pytest.fixture(scope="module")
def shipped() -> MindEye2:
    return load_mindeye2(read_artefact(DEMO / "mindeye2", "mindeye2").tensors)


def tokens(seed: int, n: int) -> Tensor:
    encoder = DemoEncoder.load(DEMO / "encoder")
    return torch.from_numpy(encoder.encode(render_batch(random_scenes(np.random.default_rng(seed), n), 64)))


def test_it_belongs_to_the_encoder_beside_it() -> None:
    assert read_artefact(DEMO / "mindeye2", "mindeye2").config["encoder"] == DemoEncoder.load(DEMO / "encoder").digest


@pytest.mark.slow
def test_an_invented_brain_is_decoded_after_200_trials(shipped: MindEye2) -> None:
    """Random linear voxels, unlike the simulator's; noise as strong as the signal. Chance is 1 of 100."""
    rng = torch.Generator().manual_seed(3)
    weights = torch.randn(1024, 600, generator=rng) / 32

    def betas(tokens_KND: Tensor) -> Tensor:
        clean = tokens_KND.flatten(1) @ weights
        return clean + torch.randn(clean.shape, generator=rng)

    known, new = tokens(11, 200), tokens(12, 100)
    decoder = fold(finetune(shipped, betas(known), known, Config(), seed=0))
    found = decoder.tokens(betas(new))
    scores = F.normalize(found.retrieval.flatten(1), dim=1) @ F.normalize(new.flatten(1), dim=1).T
    assert int((scores.argmax(1) == torch.arange(100)).sum()) >= 60
    assert decoder.prior is not None
    draws = decoder.prior.sample(found.backbone.repeat(4, 1, 1), 10, generator=rng).unflatten(0, (4, 100)).mean(0)
    mean_picture = known.mean(0).expand_as(new)
    assert F.mse_loss(draws, new) < 0.9 * F.mse_loss(mean_picture, new)


@pytest.mark.slow
@torch.no_grad()
def test_few_steps_of_the_prior_stay_faithful(shipped: MindEye2) -> None:
    """Mean of four draws and the true tokens: half of the steps cost nothing, a quarter hardly anything."""
    true = tokens(14, 40)
    latent = shipped.ridge(true.flatten(1))
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    condition = shipped.tokens_of(latent + 0.8 * noise * latent.std(0)).backbone
    cosines = {}
    for steps in (20, 10, 5):
        sampler, rng = Sampler(shipped.prior, steps), torch.Generator().manual_seed(1)
        mean = torch.stack([sampler(condition, generator=rng) for _ in range(4)]).mean(0)
        cosines[steps] = float(F.cosine_similarity(mean.flatten(1), true.flatten(1)).mean())
    before = float(F.cosine_similarity(condition.flatten(1), true.flatten(1)).mean())
    assert cosines[20] > before + 0.1
    assert cosines[10] > cosines[20] - 0.01
    assert cosines[5] > cosines[20] - 0.03
