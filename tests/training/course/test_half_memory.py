"""AdamW in half the memory: exact halves of weights, averages within 8 bits, the same course as torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.course.half_memory import LARGE, POSITIVE, SIGNED, HalfMemoryAdamW, join, read_blocks, split, write_blocks
from training.course.optimiser import AdamW

N = LARGE + 300  # one block is not whole


@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-(2.0**120), max_value=2.0**120), min_size=1))
def test_two_halves_are_the_number_to_the_bit(numbers: list[float]) -> None:
    whole = torch.tensor(numbers, dtype=torch.float32)
    upper, lower = split(whole)
    assert torch.equal(join(upper, lower).view(torch.int32), whole.view(torch.int32))
    normal = whole.abs() > 1e-37
    error = (upper.float() - whole).abs()[normal] / whole.abs()[normal]
    assert not len(error) or float(error.max()) <= 2.0**-8


@pytest.mark.parametrize(("codes", "sign"), [(SIGNED, 1), (POSITIVE, 0)])
def test_blocks_keep_numbers_of_seven_decades(codes: torch.Tensor, sign: int) -> None:
    rng = torch.Generator().manual_seed(0)
    values = 10.0 ** (-5.0 * torch.rand(4096, generator=rng))
    if sign:
        values *= torch.randn(4096, generator=rng).sign()
    values[:256] = 0.0
    places, scale = write_blocks(values, codes)
    assert (places.dtype, scale.shape, codes.shape) == (torch.uint8, (16,), (256,))
    back = read_blocks(places, scale, codes)
    assert torch.equal(back[:256], torch.zeros(256))
    error = ((back - values).abs() / values.abs())[256:]
    # each decade has half as many numbers as the one above: a place is worth 1 % in the uppermost, 30 % in the fifth
    assert float(error[values[256:].abs() > 0.1].max()) < 0.08
    assert float(error.max()) < 0.5
    assert torch.equal(values.sign()[256:], back.sign()[256:])


def problem(kind: type[AdamW] | type[HalfMemoryAdamW], steps: int, rate: float) -> tuple[float, torch.Tensor]:
    """Distance from the target after some noisy steps of a quadratic, and the weight."""
    rng = np.random.default_rng(3)
    target = torch.from_numpy(rng.standard_normal(N).astype(np.float32))
    scale = torch.from_numpy(10.0 ** rng.uniform(-3, 1, N)).float()
    weight = nn.Parameter(torch.zeros(N))
    optimiser = kind({"w": weight}, {"w"}, 0.0)
    for _ in range(steps):
        noise = torch.from_numpy(rng.standard_normal(N)).float() * 0.1
        weight.grad = (scale * (weight.detach().float() - target) + scale * noise).to(weight.dtype)
        optimiser.step(rate)
    whole = optimiser.whole("w")
    return float((whole - target).square().mean()), whole


def test_the_course_is_that_of_torch() -> None:
    (ours, weight), (theirs, peer) = problem(HalfMemoryAdamW, 250, 1e-2), problem(AdamW, 250, 1e-2)
    start = problem(AdamW, 0, 0.0)[0]
    assert theirs < 0.1 * start
    assert ours < 1.2 * theirs
    assert float((weight - peer).norm() / peer.norm()) < 0.1


def test_steps_smaller_than_bfloat16_are_not_lost() -> None:
    """A weight of 1 that moves by 1e-5 a step: bfloat16 alone has 4e-3 between its numbers, and it would not move."""
    weight = nn.Parameter(torch.ones(N))
    optimiser = HalfMemoryAdamW({"w": weight}, set(), 0.0)
    for _ in range(50):
        weight.grad = torch.ones(N, dtype=torch.bfloat16)
        optimiser.step(1e-5)
    torch.testing.assert_close(optimiser.whole("w"), torch.full((N,), 1 - 50e-5), rtol=0, atol=50e-5 * 0.02)


def test_weights_decay_by_the_rate() -> None:
    weight, other = nn.Parameter(torch.ones(N)), nn.Parameter(torch.ones(N))
    optimiser = HalfMemoryAdamW({"w": weight, "other": other}, {"w"}, 0.1)
    for each in (weight, other):
        each.grad = torch.zeros(N, dtype=torch.bfloat16)
    optimiser.step(0.5)
    assert torch.equal(optimiser.whole("other"), torch.ones(N))
    torch.testing.assert_close(optimiser.whole("w"), torch.full((N,), 0.95))


def test_what_is_kept_is_what_is_claimed() -> None:
    weight, small = nn.Parameter(torch.zeros(1 << 16)), nn.Parameter(torch.zeros(LARGE - 1))
    optimiser = HalfMemoryAdamW({"w": weight, "small": small}, set(), 0.0)
    held = optimiser.state()
    of_large = sum(t.numel() * t.element_size() for name, t in held.items() if name.endswith(".w"))
    assert of_large / weight.numel() == pytest.approx(2 + 2 + 1 + 1, abs=0.04)  # halves, averages and their scales
    assert held["trained.w"].dtype == torch.bfloat16
    assert held["trained.small"].dtype == torch.float32


def test_it_continues_to_the_same_bits() -> None:
    def walk(optimiser: HalfMemoryAdamW, weight: nn.Parameter, steps: range) -> None:
        for step in steps:
            grad = np.random.default_rng(step).standard_normal(N)
            weight.grad = torch.from_numpy(grad).bfloat16()
            optimiser.step(1e-3)

    whole, first, second = (nn.Parameter(torch.ones(N)) for _ in range(3))
    straight, stopped = (HalfMemoryAdamW({"w": w}, {"w"}, 0.01) for w in (whole, first))
    walk(straight, whole, range(6))
    walk(stopped, first, range(3))
    held = {name: tensor.clone() for name, tensor in stopped.state().items()}
    resumed = HalfMemoryAdamW({"w": second}, {"w"}, 0.01)
    resumed.restore(3, held)
    walk(resumed, second, range(3, 6))
    expected = straight.state()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state().items())
