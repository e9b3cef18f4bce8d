"""Low-rank changes: none at first, the same in use as when merged, and counted at the published size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from support.meta_card import MetaCard
from support.tiny_unclip import UNET, tiny_parts
from support.tolerance import network
from training.distillation.consistency import Batch, Levels, loss
from training.distillation.low_rank import LowRank
from training.distillation.networks import low_rank_networks

GIVEN = (torch.randn(2, 4, 4, 4), torch.tensor([999.0, 24.0]), torch.randn(2, 16, 48), torch.randn(2, 64))


def tiny() -> Any:
    unet = build_unet(UNET)
    unet.load_state_dict(tiny_parts().unet)
    return unet.eval().requires_grad_(False)


def given(unet: Any) -> Tensor:
    predicted: Tensor = unet(*GIVEN, return_dict=False)[0]
    return predicted


def test_it_changes_nothing_before_it_is_trained_and_the_same_once_it_is_merged() -> None:
    plain, changed = tiny(), tiny()
    layers = LowRank(changed)
    factors = layers.draw(2, seed=1)
    expected = given(plain)
    with layers.using(factors):
        torch.testing.assert_close(given(changed), expected, rtol=0.0, atol=0.0)
    for name, factor in factors.items():
        if name.endswith(".up"):
            torch.nn.init.normal_(factor, std=0.1)
    with layers.using(factors):
        used = given(changed)
    assert torch.equal(given(changed), expected)  # out of use again
    state = plain.state_dict()
    for name, change in layers.changes(factors):
        state[name] += change
    assert (used - expected).abs().max() > 0.01
    torch.testing.assert_close(used, given(plain), **network(9 * 96, 20))  # a convolution's inputs; layers in a row


def test_gradients_are_those_without_saved_activations() -> None:
    """Activations are computed again on the way back, when the target was computed in between."""
    gradients = []
    for saving in (False, True):
        networks = low_rank_networks(tiny(), 2, seed=1)
        if not saving:
            networks = low_rank_networks(without_checkpoints := tiny(), 2, seed=1)
            without_checkpoints.disable_gradient_checkpointing()
        result = networks.student(*GIVEN)
        with torch.no_grad():
            networks.target(*GIVEN)
            networks.teacher(*GIVEN)
        result.square().mean().backward()  # type: ignore[no-untyped-call]
        gradients.append({name: weight.grad for name, weight in networks.trained.items()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_it_fits_a_workstations_card_at_the_published_size(record_property: pytest.RecordProperty) -> None:
    """All layers that published LoRAs of SDXL change, and one image's forward and backward pass under 24 GB."""
    with torch.device("meta"):
        unet = build_unet(UnetLayout()).to(torch.bfloat16).requires_grad_(False)
    networks = low_rank_networks(unet, 64, seed=0)
    n_layers = len(networks.trained) // 2
    n_factors = sum(weight.numel() for weight in networks.trained.values())
    assert n_layers == 788
    meta = {"device": "meta"}
    batch = Batch(
        torch.empty(1, 4, 96, 96, **meta), torch.empty(1, 256, 1664, **meta), torch.empty(1, 1024, **meta),
        torch.empty(1, 4, 96, 96, **meta), torch.empty(1, 256, 1664, **meta),
        torch.empty(1, dtype=torch.long, **meta),
    )  # fmt: skip
    optimiser_bytes = 2 * 4 * n_factors
    levels = Levels.on("meta")
    card = MetaCard()
    with card:
        card.hold(unet, *networks.trained.values(), *networks.averaged.values())
        loss(networks.student, networks.teacher, networks.target, levels, batch, 5.0).backward()  # type: ignore[no-untyped-call]
    assert card.strays == []
    assert card.peak_bytes + optimiser_bytes < 24e9
    record_property(
        "figures",
        f"distillation at the published size, batch 1, 768 px, bfloat16: {n_factors:,} numbers in {n_layers} layers of"
        f" rank 64, {card.operations / 1e12:.1f} TFLOP a step, peak {card.peak_bytes / 1e9:.1f} GB and"
        f" {optimiser_bytes / 1e9:.1f} GB of the optimiser",
    )
