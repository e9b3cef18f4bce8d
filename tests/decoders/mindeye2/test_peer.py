"""The benchmark's peer: the specification written plainly gives the reference's numbers, and ours are its numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mindsight.decoders.mindeye2 import Sampler, fold, load_mindeye2
from support.listing import at_an_eighth, random_state, released
from support.tolerance import network

CLOSE = network(terms=208, sums=8)  # the fixture: at most 208 terms, two layers of attention and feed-forward


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
    import plain_mindeye

    return plain_mindeye


def test_the_peer_gives_what_the_reference_gave(
    plain: ModuleType, weights: dict[str, Tensor], reference: dict[str, Any]
) -> None:
    peer = plain.PlainMindEye2(weights, heads=2)
    backbone, retrieval = peer.tokens(reference["voxels0"][:, 0])
    assert_close(backbone, reference["backbone"], **CLOSE)
    assert_close(retrieval, reference["clip_proj"], **CLOSE)
    assert_close(peer.lowlevel(reference["voxels0"][:, 0]), reference["blur_latent"], **CLOSE)
    drawn = peer.sample(reference["backbone"], 20, iter(reference["ddim20_noises"]))
    assert_close(drawn, reference["ddim20"], **network(208, 8, 20))


def test_from_voxels_to_image_tokens_as_the_peer(plain: ModuleType, shared: Path) -> None:
    """The whole way at an eighth, prior at 20 steps, to what rounding leaves of the tokens' spread."""
    state = random_state(at_an_eighth(released(shared, "A")))
    model, peer = load_mindeye2(state).requires_grad_(False), plain.PlainMindEye2(state, heads=4)
    rng = torch.Generator().manual_seed(2)
    voxels_BV = torch.randn(1, 1965, generator=rng)
    noises = list(torch.randn(19, 1, 32, 208, generator=rng))
    ours = fold(model).tokens(voxels_BV)
    backbone, retrieval = peer.tokens(voxels_BV)
    pairs = {
        "retrieval": (ours.retrieval, retrieval),
        "lowlevel": (ours.lowlevel, peer.lowlevel(voxels_BV)),
        "prior": (Sampler(model.prior)(ours.backbone, noises), peer.sample(backbone, 20, iter(noises))),
    }
    for name, (found, expected) in pairs.items():
        evaluations = 20 if name == "prior" else 1
        close = network(terms=832, sums=24, evaluations=evaluations)["atol"]
        assert (found - expected).abs().max() < close * expected.std(), name
