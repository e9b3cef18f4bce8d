"""Sections of gpu.py: the card's ceilings, and voxels to ranking and refined tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from bench_mindeye import STEPS, multiply_adds
from gpu_bench import Bench, emit
from torch import Tensor

from mindsight.decoders.mindeye2.backbone import Backbone
from mindsight.decoders.mindeye2.decoder import MindEye2Decoder
from mindsight.decoders.mindeye2.folded import FoldedMindEye2
from mindsight.decoders.mindeye2.prior import DiffusionPrior
from mindsight.decoders.mindeye2.sampler import Sampler
from mindsight.features import FeatureSpace
from mindsight.retrieval.on_card import PoolOnCard

PRODUCTS = 10  # in a row, as one product alone is shorter than its start
N_RANKED = 10
SPACE = "tokens"


def ceilings(bench: Bench) -> None:
    from gpu_networks import operations

    throughput, bandwidth = products_per_s(bench), bytes_per_s(bench)
    emit("throughput", value=throughput, tera=float(f"{throughput / 1e12:.3g}"))
    emit("bandwidth", value=bandwidth, tera=float(f"{bandwidth / 1e12:.3g}"))
    for name, count in operations(bench.sizes).items():
        emit(name, value=float(count), tera=float(f"{count / 1e12:.4g}"))


def products_per_s(bench: Bench) -> float:
    """Multiplications and additions of a large product of random numbers."""
    n, like = bench.sizes.product, {"device": bench.device, "dtype": bench.dtype}
    a, b, out = torch.randn(n, n, **like), torch.randn(n, n, **like), torch.empty(n, n, **like)

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=out)

    return 2e3 * PRODUCTS * n**3 / fastest_ms(bench, products)


def bytes_per_s(bench: Bench) -> float:
    """Read and written by a large copy."""
    source, target = (torch.empty(bench.sizes.copied, dtype=torch.uint8, device=bench.device) for _ in range(2))
    source.random_()
    return 2e3 * len(source) / fastest_ms(bench, lambda: target.copy_(source))


def fastest_ms(bench: Bench, work: Callable[[], object], rounds: int = 7) -> float:
    """Of a few: a ceiling is what the card can, not what it usually does."""
    bench.ms(work)
    return min(bench.ms(work) for _ in range(rounds))


def decoding(bench: Bench) -> None:
    layout, at = bench.sizes.layout, bench.placement
    with bench.device:
        trunk, prior = Backbone(layout), DiffusionPrior(layout)
        ridge_HV = torch.randn(layout.hidden, layout.voxels[0]) / layout.voxels[0] ** 0.5
        shift_H = torch.zeros(layout.hidden)
    folded = FoldedMindEye2(trunk.eval().requires_grad_(False), ridge_HV, shift_H, prior.eval().requires_grad_(False))
    folded.place(at)
    decoder = MindEye2Decoder(folded, FeatureSpace(SPACE, (layout.tokens, layout.dim)), at)
    n, numbers = bench.sizes.candidates, layout.tokens * layout.dim
    rows_ND = torch.randn(n, numbers, dtype=torch.float16, device=bench.device)
    pool = PoolOnCard(at, rows_ND, np.arange(n))
    voxels_1V = np.random.default_rng(0).standard_normal((1, layout.voxels[0])).astype(np.float32)
    tokens = decoder(voxels_1V)

    def rank() -> object:
        found = pool.rank(tokens[SPACE].mean(axis=0), N_RANKED)
        assert found is not None
        return found

    def both() -> object:
        found = pool.rank(decoder(voxels_1V)[SPACE].mean(axis=0), N_RANKED)
        assert found is not None
        return found

    weights = sum(held.numel() * held.element_size() for held in folded.tensors())
    pool_bytes = rows_ND.numel() * rows_ND.element_size()
    floor = bench.floor_ms
    bench.row(
        "voxels to tokens", lambda: lambda: decoder(voxels_1V), floor(n_bytes=weights), gb=round(weights / 1e9, 2)
    )
    bench.row(f"ranking of {n:,}", lambda: rank, floor(n_bytes=pool_bytes), gb=round(pool_bytes / 1e9, 2))
    bench.row("voxels to ranking", lambda: both, floor(n_bytes=weights + pool_bytes))
    for steps in STEPS:
        bench.row(
            f"prior, {steps} steps",
            lambda steps=steps: trajectory(bench, prior, steps),
            floor(operations=2.0 * (steps - 1) * multiply_adds(layout)),
        )


def trajectory(bench: Bench, prior: DiffusionPrior, steps: int) -> Callable[[], Tensor]:
    """One trial's, its noise drawn before, as between trials."""
    layout, sampler = bench.sizes.layout, Sampler(prior, steps)
    draws = sampler.draws(0, 1)
    cond_1ND = torch.randn(1, layout.tokens, layout.dim, dtype=bench.dtype, device=bench.device)
    return lambda: sampler(cond_1ND, draws)
