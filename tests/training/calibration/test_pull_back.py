"""Tokens pulled back through the affine form of a backbone."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from mindsight.decoders.mindeye2 import Layout, MindEye2
from mindsight.errors import ModelMismatch
from training.calibration.pull_back import PullBack

HIDDEN, TOKENS, DIM = 12, 4, 8


@pytest.fixture
def model() -> MindEye2:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = MindEye2(Layout(voxels=(5,), hidden=HIDDEN, tokens=TOKENS, dim=DIM, n_blocks=2)).eval()
        for block in made.backbone.mixer_blocks2:  # so that the constant is not small
            cast(nn.LayerNorm, cast(nn.Sequential, block)[0]).bias.data.fill_(3.0)
        return made


@torch.no_grad()
def tokens_of(model: MindEye2, latent_KH: torch.Tensor) -> torch.Tensor:
    return model.tokens_of(latent_KH).backbone.flatten(1)


def test_what_a_latent_gives_is_pulled_back_to_it(model: MindEye2) -> None:
    latent_KH = torch.randn(9, HIDDEN, generator=torch.Generator().manual_seed(1))
    pulled = PullBack.of(model)
    assert pulled.rank == HIDDEN
    torch.testing.assert_close(pulled.latents(tokens_of(model, latent_KH)), latent_KH, atol=1e-4, rtol=0)


def test_any_tokens_are_pulled_back_to_the_latent_whose_tokens_are_nearest(model: MindEye2) -> None:
    wanted_KX = torch.randn(3, TOKENS * DIM, generator=torch.Generator().manual_seed(2))
    latent_KH = PullBack.of(model).latents(wanted_KX)
    best = (tokens_of(model, latent_KH) - wanted_KX).square().sum(1)
    for seed in range(20):
        moved = latent_KH + 0.1 * torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(seed))
        assert ((tokens_of(model, moved) - wanted_KX).square().sum(1) > best).all()


def test_directions_that_hardly_change_a_token_are_left_out(model: MindEye2) -> None:
    with torch.no_grad():
        weight = model.backbone.backbone_linear.weight
        weight[:, 0] = 1e-5 * weight[:, 1] + 1e-6 * torch.randn(len(weight), generator=torch.Generator().manual_seed(3))
    pulled = PullBack.of(model)
    assert pulled.rank == HIDDEN - 1
    wanted_KX = torch.randn(5, TOKENS * DIM, generator=torch.Generator().manual_seed(4))
    assert pulled.latents(wanted_KX).abs().max() < 100


def test_tokens_of_another_encoder_are_refused(model: MindEye2) -> None:
    with pytest.raises(ModelMismatch) as raised:
        PullBack.of(model).latents(torch.zeros(1, TOKENS * DIM + 1))
    assert raised.value.code == "pool.query_shape"
