"""Every output recorded from the reference, float32, to what rounding leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mindsight.decoders.mindeye2 import MindEye2, losses
from mindsight.decoders.mindeye2.schedule import alphas_cumprod, sampler_table
from support.tolerance import network

CLOSE = network(terms=208, sums=8)  # the fixture: at most 208 terms, two layers of attention and feed-forward


@pytest.mark.parametrize("subject", [0, 1])
def test_ridge(model: MindEye2, reference: dict[str, Any], subject: int) -> None:
    assert_close(model.ridge(reference[f"voxels{subject}"][:, 0], subject), reference[f"ridge{subject}"][:, 0], **CLOSE)


def test_tokens(model: MindEye2, reference: dict[str, Any]) -> None:
    tokens = model.tokens(reference["voxels0"][:, 0])
    assert_close(tokens.backbone, reference["backbone"], **CLOSE)
    assert_close(tokens.retrieval, reference["clip_proj"], **CLOSE)
    assert_close(tokens.lowlevel, reference["blur_latent"], **CLOSE)


def test_auxiliary_maps(model: MindEye2, reference: dict[str, Any]) -> None:
    mixed = model.backbone.mix(reference["ridge0"][:, 0])
    assert_close(model.backbone.lowlevel_aux(mixed), reference["blur_aux"], **CLOSE)


@pytest.mark.parametrize(("cond_scale", "recorded"), [(1.0, "prior_pred"), (0.0, "prior_null"), (3.0, "prior_cfg3")])
def test_prior_evaluation(model: MindEye2, reference: dict[str, Any], cond_scale: float, recorded: str) -> None:
    predicted = model.prior.predict(reference["prior_x"], reference["prior_t"], reference["backbone"], cond_scale)
    assert_close(predicted, reference[recorded], **CLOSE)


@pytest.mark.parametrize(("steps", "recorded"), [(20, "ddim20"), (100, "ddpm100")])
def test_sampler(model: MindEye2, reference: dict[str, Any], steps: int, recorded: str) -> None:
    drawn = model.prior.sample(reference["backbone"], steps, noises=reference[f"{recorded}_noises"])
    assert_close(drawn, reference[recorded], **network(208, 8, steps))


def test_prior_loss(model: MindEye2, reference: dict[str, Any]) -> None:
    loss = model.prior.loss(
        reference["loss_target"], reference["backbone"], reference["loss_t"], reference["loss_noise"]
    )
    assert_close(loss, reference["loss"], **CLOSE)


def test_dropped_conditions_give_the_null_prediction(model: MindEye2, reference: dict[str, Any]) -> None:
    t, target = reference["prior_t"], reference["loss_target"]
    none = torch.zeros(3, dtype=torch.bool)
    loss = model.prior.loss(target, reference["backbone"], t, reference["loss_noise"], none, none)
    assert_close(loss, torch.mean((reference["prior_null"] - target) ** 2), **CLOSE)


def test_noise_schedule(weights: dict[str, Tensor]) -> None:
    recorded = weights["diffusion_prior.noise_scheduler.alphas_cumprod"]
    assert_close(torch.from_numpy(alphas_cumprod()).float(), recorded, atol=1e-7, rtol=1e-6)
    assert [step.t for step in sampler_table(20)] == list(range(94, 3, -5))
    assert [step.t for step in sampler_table(100)] == list(range(99, -1, -1))
    with pytest.raises(ValueError, match="2 to 100 steps, got 101"):
        sampler_table(101)


def test_mixing_channels_has_no_influence(model: MindEye2, reference: dict[str, Any]) -> None:
    """Why the fold may drop those weights: the output is the same, to the bit, whatever they are."""
    before = model.backbone.mix(reference["ridge0"][:, 0])
    kept = {key: value.clone() for key, value in model.backbone.mixer_blocks1.state_dict().items()}
    for parameter in model.backbone.mixer_blocks1.parameters():
        parameter.data.normal_()
    assert torch.equal(model.backbone.mix(reference["ridge0"][:, 0]), before)
    model.backbone.mixer_blocks1.load_state_dict(kept)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Tensor]:
    return dict(torch.load(shared / "fixtures/mindeye2_losses.pt", weights_only=True))


def test_bimixco(golden: dict[str, Tensor]) -> None:
    loss = losses.bimixco(golden["P"], golden["T"], 0.006, golden["perm"], golden["betas"])
    assert_close(loss, golden["mixco_nce"], **CLOSE)
    assert_close(losses.mix(golden["vox"], golden["perm"], golden["betas"]), golden["mixco_vox"], **CLOSE)


@pytest.mark.parametrize("temperature", ["0.0075", "0.004"])
def test_soft_clip(golden: dict[str, Tensor], temperature: str) -> None:
    loss = losses.soft_clip(golden["P"], golden["T"], float(temperature))
    assert_close(loss, golden[f"soft_clip_{temperature}"], **CLOSE)


def test_soft_cont(golden: dict[str, Tensor]) -> None:
    assert_close(losses.soft_cont(golden["P"], golden["T"], golden["cont_aug"], 0.2), golden["soft_cont_0.2"], **CLOSE)


def test_temperatures(golden: dict[str, Tensor]) -> None:
    assert_close(losses.temperatures(101), golden["anneal_101"], **CLOSE)
