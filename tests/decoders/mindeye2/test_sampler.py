"""The sampler's inference form: equal to the loop over the network as it is written down, and ready for capture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from mindsight import assets
from mindsight.decoders.mindeye2 import DiffusionPrior, MindEye2, Sampler, fold, load_mindeye2
from mindsight.decoders.mindeye2.prior_inference import PriorInference
from mindsight.decoders.mindeye2.schedule import sampler_table
from support.listing import at_an_eighth, random_state, released
from support.tolerance import half_precision, network


def written_out(
    prior: DiffusionPrior, cond_BND: Tensor, noises: Iterable[Tensor], steps: int, scale: float = 1.0
) -> Tensor:
    """The loop over ``predict``, the form that is trained."""
    draws = iter(noises)
    x = next(draws)
    for step in sampler_table(steps):
        clean = prior.predict(x, torch.full((len(x),), step.t), cond_BND, scale)
        x = step.clean * clean + step.noisy * x
        x = x + step.noise * next(draws) if step.noise else x
    return x


@pytest.fixture(scope="module")
def eighth(shared: Path) -> MindEye2:
    shapes = {k: v for k, v in at_an_eighth(released(shared, "B2")).items() if not k.startswith("ridge")}
    return load_mindeye2(
        random_state(shapes | {"ridge.linears.0.weight": (1024, 50), "ridge.linears.0.bias": (1024,)})
    ).requires_grad_(False)


@pytest.mark.parametrize(("steps", "scale"), [(20, 1.0), (20, 2.0), (10, 1.0), (5, 1.0), (5, 3.0), (2, 1.0)])
def test_equal_to_the_loop_over_evaluations(
    model: MindEye2, reference: dict[str, Any], steps: int, scale: float
) -> None:
    cond, noises = reference["backbone"], reference["ddim20_noises"]
    drawn = Sampler(model.prior, steps, scale)(cond, noises)
    assert_close(drawn, written_out(model.prior, cond, noises, steps, scale), **network(208, 8, steps))


@pytest.mark.parametrize("head_multiple", [1, 8, 64])
def test_padded_heads_change_nothing(model: MindEye2, reference: dict[str, Any], head_multiple: int) -> None:
    drawn = Sampler(model.prior, 20, head_multiple=head_multiple)(reference["backbone"], reference["ddim20_noises"])
    assert_close(drawn, reference["ddim20"], **network(208, 8, 20))


def test_one_evaluation_at_an_eighth(eighth: MindEye2) -> None:
    """Six layers and four heads, as wide as the released ones."""
    rng = torch.Generator().manual_seed(0)
    x, cond = (torch.randn(2, 32, 208, generator=rng) for _ in range(2))
    net = eighth.prior.net
    t = torch.tensor([3, 70])
    found = PriorInference(net.causal_transformer, net.learned_query)(x, net.time_tokens(t), cond)
    assert_close(found, eighth.prior.predict(x, t, cond), **network(terms=832, sums=24))


def test_the_loop_can_be_captured(model: MindEye2, reference: dict[str, Any]) -> None:
    """A CUDA graph replays what was recorded: the loop, traced on zeros, gives for other inputs what the loop gives."""
    sampler, cond = Sampler(model.prior, 5), reference["backbone"]
    noises = list(reference["ddim20_noises"][: sampler.n_draws])
    assert sampler.n_draws == 4

    def loop(cond_BND: Tensor, *draws: Tensor) -> Tensor:
        return sampler.trajectory(cond_BND, iter(draws))

    with torch.no_grad():
        traced = make_fx(loop)(torch.zeros_like(cond), *map(torch.zeros_like, noises))
        assert_close(traced(cond, *noises), sampler(cond, noises), **network(208, 8, 5))
    # nothing waits for a value, which a capture would forbid
    assert "aten._local_scalar_dense.default" not in {str(node.target) for node in traced.graph.nodes}


def test_a_seeded_generator_draws_the_same_tokens_again(model: MindEye2, reference: dict[str, Any]) -> None:
    first, second, other = (
        model.prior.sample(reference["backbone"], 5, generator=torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact.float()).norm() / exact.float().norm())


# Measured over the kernels of `make test-portable`, rounded up:
# relative error against float32 of one evaluation and of a trajectory of 20 steps
HALF = {
    ("fixture", torch.float16): (1e-2, 7e-2),
    ("fixture", torch.bfloat16): (1.8e-2, 1.3e-1),
    ("demo", torch.float16): (2e-3, 4e-3),
    ("demo", torch.bfloat16): (1.5e-2, 3.5e-2),
}


@pytest.mark.parametrize(("name", "dtype"), HALF)
def test_half_precision(model: MindEye2, name: str, dtype: torch.dtype) -> None:
    exact = model if name == "fixture" else load_mindeye2(assets.BUNDLE / "decoder.safetensors")
    half = load_mindeye2(exact.state_dict(), dtype)
    rng = torch.Generator().manual_seed(1)
    cond = fold(exact).tokens(torch.randn(4, exact.layout.voxels[0], generator=rng), lowlevel=False).backbone
    noises = [torch.randn(cond.shape, generator=rng) for _ in range(19)]
    drawn = Sampler(half.prior, 20)(cond.to(dtype), [noise.to(dtype) for noise in noises])
    once = evaluated(half.prior, noises[0].to(dtype), cond.to(dtype))
    errors = (
        relative(once, evaluated(exact.prior, noises[0], cond)),
        relative(drawn, Sampler(exact.prior)(cond, noises)),
    )
    for error, bound in zip(errors, HALF[name, dtype], strict=True):
        assert half_precision(error, bound, torch.finfo(dtype).eps)


def test_half_precision_is_what_the_references_autocast_gives(model: MindEye2, reference: dict[str, Any]) -> None:
    """The published figures come from float16 autocast, whose epsilons differ from those of pure half precision."""
    x, t, cond = reference["prior_x"], torch.full((3,), 50), reference["backbone"]
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        automatic = model.prior.predict(x, t, cond)
    half = load_mindeye2(model.state_dict(), torch.float16).prior
    assert relative(evaluated(half, x.half(), cond.half()), automatic) < 3e-3
    assert relative(automatic, model.prior.predict(x, t, cond)) > 4e-3


@torch.no_grad()
def evaluated(prior: DiffusionPrior, x: Tensor, cond: Tensor) -> Tensor:
    net = prior.net
    evaluate = PriorInference(net.causal_transformer, net.learned_query)
    return evaluate(x, net.time_tokens(torch.full((len(x),), 50)), cond)


def test_a_seed_is_the_same_noise_in_every_precision(model: MindEye2, reference: dict[str, Any]) -> None:
    half = load_mindeye2(model.state_dict(), torch.bfloat16)
    cond = reference["backbone"]
    draw = torch.Generator().manual_seed(7)
    noises = [torch.randn(cond.shape, generator=draw) for _ in range(4)]
    for prior, dtype in ((model.prior, torch.float32), (half.prior, torch.bfloat16)):
        sampler = Sampler(prior, 5)
        seeded = sampler(cond.to(dtype), generator=torch.Generator().manual_seed(7))
        assert torch.equal(seeded, sampler(cond.to(dtype), [noise.to(dtype) for noise in noises]))
