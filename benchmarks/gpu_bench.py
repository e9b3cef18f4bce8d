"""What the sections of gpu.py share: sizes, where they compute, and how a row is measured.

A section is a function of a ``Bench``. It prints one line of JSON for each row as soon as it is measured, so that
nothing is lost with the process. An error costs its own row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench_mindeye import DEPTH, DIM, DIM_HEAD, HEADS, HIDDEN, INNER, SUBJECT_VOXELS, TOKENS
from torch import Tensor

from mindsight.decoders.mindeye2.layout import Layout, PriorLayout
from mindsight.generators.sampling.plan import SamplerPlan
from mindsight.generators.sampling.presets import plan
from mindsight.generators.unclip.sdxl.unet import UnetLayout
from mindsight.generators.unclip.sdxl.vae import VaeLayout
from mindsight.weights.device import HOST, Placement

MOST_S = 2.0  # of repeating one row
FEWEST, MOST = 2, 30  # repeats


@dataclass(frozen=True)
class Sizes:
    """product : edge of the matrices of the large product; copied : bytes of the large copy

    volume : its grid; extracted : its sampled voxels; tiny : arguments of diffusers' AutoencoderTiny
    """

    layout: Layout
    candidates: int
    unet: UnetLayout
    vae: VaeLayout
    tiny: Mapping[str, Any]
    pixels: tuple[int, int]
    product: int
    copied: int
    volume: tuple[int, int, int]
    extracted: int


FULL = Sizes(
    layout=Layout(
        voxels=(SUBJECT_VOXELS,),
        hidden=HIDDEN,
        tokens=TOKENS,
        dim=DIM,
        n_blocks=0,
        prior=PriorLayout(depth=DEPTH, heads=HEADS, dim_head=DIM_HEAD, inner=INNER),
    ),
    candidates=10_000,
    unet=UnetLayout(),
    vae=VaeLayout(),
    tiny={},
    pixels=(512, 768),
    product=8192,
    copied=1 << 32,
    volume=(120, 120, 78),
    extracted=15_000,
)
SMALL = Sizes(
    layout=Layout(
        voxels=(300,),
        hidden=64,
        tokens=8,
        dim=32,
        n_blocks=0,
        prior=PriorLayout(depth=2, heads=2, dim_head=16, inner=64),
    ),
    candidates=50,
    unet=UnetLayout(widths=(32, 64), depths=(0, 1), head_dim=16, resnets=1, token_dim=32, vector_dim=64),
    vae=VaeLayout(widths=(32, 32, 32, 32), resnets=1),
    tiny={
        "encoder_block_out_channels": (16,) * 4,
        "decoder_block_out_channels": (16,) * 4,
        "num_encoder_blocks": (1,) * 4,
        "num_decoder_blocks": (1,) * 4,
    },
    pixels=(32, 64),
    product=256,
    copied=1 << 22,
    volume=(40, 44, 32),
    extracted=500,
)


class Bench:
    """One section's run.

    known : throughput (operations per second), bandwidth (bytes per second) and operations of networks, by name, of
        what the section ``ceilings`` found; empty there
    """

    def __init__(self, small: bool, known: Mapping[str, float]) -> None:
        self.sizes = SMALL if small else FULL
        self.small, self.known = small, known
        self.on_card = torch.cuda.is_available()
        self.placement = Placement("cuda:0", "float16") if self.on_card else HOST
        self.device = torch.device(self.placement.device)
        self.dtype = self.placement.torch_dtype
        torch.manual_seed(0)
        if not self.on_card:
            torch.set_num_threads(1)  # on a busy processor more wait for each other

    def plan(self, preset: str) -> SamplerPlan:
        """In its own number of steps; in two at small size."""
        return plan(preset, 2 if self.small else None)

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize()

    def row(
        self, name: str, make: Callable[[], Callable[[], object]], floor_ms: float | None = None, **figures: Any
    ) -> None:
        """Measure what ``make`` returns, and print it. Making it and the first call, which records or compiles, are a
        figure of their own.
        """
        try:
            if self.on_card:
                torch.cuda.reset_peak_memory_stats()
            started_s = time.perf_counter()
            work = make()
            result = work()
            self.wait()
            first_s = time.perf_counter() - started_s
            if isinstance(result, Tensor) and not bool(torch.isfinite(result).all()):
                figures["finite"] = False
            times_ms: list[float] = []
            most = 0 if self.small else MOST
            while len(times_ms) < FEWEST or (sum(times_ms) < 1e3 * MOST_S and len(times_ms) < most):
                times_ms.append(self.ms(work))
        except Exception as error:  # a row's error is not the next one's
            self.failed(name, error)
            return
        found: dict[str, Any] = {
            "median": round(float(np.median(times_ms)), 4),
            "min": round(min(times_ms), 4),
            "n": len(times_ms),
        }
        if floor_ms:
            found["floor_ms"] = round(floor_ms, 4)
        found["first_s"] = round(first_s, 2)
        if self.on_card:
            found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        emit(name, **found, **figures)

    def failed(self, name: str, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [""]
        emit(name, error=f"{type(error).__name__}: {lines[0][:200]}")
        if self.on_card and isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()

    def ms(self, work: Callable[[], object]) -> float:
        self.wait()
        started_s = time.perf_counter()
        work()
        self.wait()
        return 1e3 * (time.perf_counter() - started_s)

    def floor_ms(self, *, operations: float = 0.0, n_bytes: float = 0.0) -> float | None:
        """The longer of computing and reading; None where the ceilings are not known."""
        if not {"throughput", "bandwidth"} <= set(self.known):
            return None
        return 1e3 * max(operations / self.known["throughput"], n_bytes / self.known["bandwidth"])


def emit(name: str, **figures: Any) -> None:
    print(json.dumps({"name": name, **figures}), flush=True)
