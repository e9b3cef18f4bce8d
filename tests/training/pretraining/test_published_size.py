"""A step of fine-tuning at the published size (4,096 wide, 15,724 voxels, prior and low-level head) on a 24 GB card,
which ``meta`` stands in for: what is kept, and the most that is in use at once.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, transformer
from support.meta_autocast import MetaAutocast
from support.meta_card import MetaCard
from training.course.team import Team
from training.pretraining import objective
from training.pretraining.batches import Part
from training.pretraining.config import Config
from training.pretraining.objective import Draws, Mixing
from training.pretraining.targets import LowlevelBatch
from training.pretraining.train import Material, Pretraining

GB = 10**9
BATCH, V, N, D = 24, 15_724, 256, 1_664  # the batch of the released fine-tunings
DEAD = 134_283_264  # weights that no output depends on, which stay on the host


def there(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


class Batches:
    """One part, already on the card."""

    def part(self, number: int) -> Part:
        low = LowlevelBatch(there(BATCH, 4, 28, 28), there(BATCH, 49, 512), there(BATCH, 49, 512))
        return Part(number, (there(BATCH, V),), ("",) * BATCH, there(BATCH, N, D), low)


def draws(*_: Any) -> Draws:
    keep = there(BATCH) > 0
    mixing = Mixing(there(BATCH).long(), there(BATCH))
    return Draws(mixing, there(BATCH).long(), there(BATCH, N, D), keep, keep)


def make(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Pretraining:
    monkeypatch.setattr(objective, "autocast", lambda device, dtype: MetaAutocast(dtype))
    monkeypatch.setattr(Draws, "of", staticmethod(draws))
    # autocast's own state is entered again with a layer that is computed again
    again = partial(checkpoint, context_fn=lambda: (nullcontext(), MetaAutocast(torch.bfloat16)))
    monkeypatch.setattr(transformer, "checkpoint", again)
    layout = Layout(voxels=(V,), hidden=4096, tokens=N, dim=D, lowlevel=True, prior=PriorLayout())
    with torch.device("meta"):
        model = MindEye2(layout)
    config = Config.model_validate(
        {"out": "run", "steps": 100, "batch": BATCH, "learning_rate": 3e-4, "data": [{"kind": "simulated"}], **changes}
    )
    return Pretraining(config, model, Material(cast(Any, Batches()), [], []), Team(device="meta"))


def step(training: Pretraining, *, whole: bool = True) -> MetaCard:
    """One step, watched; weights and the optimiser's state are in use before it.

    whole : False changes the ridge layer alone, in pieces as all others are
    """
    card = MetaCard()
    of_model = {name: weight for name, weight in training.model.named_parameters() if "mixer_blocks1" not in name}
    card.hold(*training.optimiser.state().values(), *(weight.data for weight in of_model.values()))
    training.before = card.bytes  # type: ignore[attr-defined]
    with card:
        training.gradients()
        if not whole:
            for name in training.trained.keys() - {"ridge.linears.0.weight"}:
                del training.optimiser._trained[name]  # type: ignore[attr-defined]
        training.optimiser.step(1e-4)
    return card


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fine_tuning_everything_fits_into_24_gigabytes(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    training = make(monkeypatch, memory="half")
    n = sum(weight.numel() for weight in training.trained.values())
    assert n == 2_227_294_844 - DEAD - 16  # rotary frequencies, which the published count has as parameters
    card = step(training, whole=whole)
    kept = training.before  # type: ignore[attr-defined]
    print(f"{kept / n:.2f} bytes a weight kept, {kept / GB:.2f} GB; at most {card.peak_bytes / GB:.2f} GB in a step")
    assert kept == pytest.approx(6 * n, rel=0.01)
    assert card.strays == []
    assert card.peak_bytes < 22 * GB  # two are left for the context, the allocator's gaps and the next batch


@pytest.mark.slow
def test_with_the_backbone_frozen_it_fits_into_16_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    training = make(monkeypatch, memory="half", frozen=["backbone.backbone_linear."])
    card = step(training)
    print(f"at most {card.peak_bytes / GB:.2f} GB with backbone_linear frozen")
    assert card.peak_bytes < 16 * GB


def test_the_stand_in_casts_as_autocast_does() -> None:
    """The dtypes of a small network's steps are those that the CPU's own autocast gives."""
    net = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8))
    seen: dict[str, list[torch.dtype]] = {}
    for device in ("cpu", "meta"):
        net = net.to(device)
        x = torch.zeros(2, 8, device=device)
        with MetaAutocast(torch.bfloat16) if device == "meta" else torch.autocast("cpu", torch.bfloat16):
            seen[device] = []
            for layer in net:
                x = layer(x)
                seen[device].append(x.dtype)
    assert seen["meta"][0] == seen["cpu"][0] == torch.bfloat16
    assert seen["meta"][-1] == seen["cpu"][-1] == torch.bfloat16
    assert seen["meta"][1] == torch.float32
