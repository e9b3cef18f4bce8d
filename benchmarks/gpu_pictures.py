"""Sections of gpu.py: whole images by every preset, on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from gpu_bench import Bench
from gpu_networks import make_generator, make_tiny, with_decoder
from torch import Tensor

from mindsight.generators.engines import registry
from mindsight.generators.engines.base import Network
from mindsight.generators.sampling.plan import SamplerPlan
from mindsight.generators.sampling.presets import PRESETS, preset_of
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator

BATCHES = (1, 2)
FIRST = ("distilled", "fast", "reference", "sdedit")  # what targets are about comes first
assert set(FIRST) == set(PRESETS)


def pictures(bench: Bench) -> None:
    generator = make_generator(bench)
    full = generator.networks
    tiny = with_decoder(full, make_tiny(bench))
    measure(bench, generator, "eager", tiny)
    largest = bench.sizes.pixels[1]
    use(bench, generator, "eager", full)
    bench.row(
        name_of(largest, 1, "reference", "as published"),
        lambda: image(bench, generator, "reference", largest, 1),
        floor_ms(bench, bench.plan("reference"), largest, 1, "full"),
    )
    measure(bench, generator, "graphed", tiny)


def compiled(bench: Bench) -> None:
    generator = make_generator(bench)
    measure(bench, generator, "compiled", with_decoder(generator.networks, make_tiny(bench)))


def measure(bench: Bench, generator: UnclipGenerator, engine: str, networks: Sequence[Network]) -> None:
    """Every preset at both sizes, for one image and for two."""
    try:
        use(bench, generator, engine, networks)
    except Exception as error:  # an engine that this machine cannot have
        bench.failed(f"{engine}, all", error)
        return
    for px, batch, preset in in_order(bench.sizes.pixels):
        bench.row(
            name_of(px, batch, preset, engine),
            lambda px=px, batch=batch, preset=preset: image(bench, generator, preset, px, batch),
            floor_ms(bench, bench.plan(preset), px, batch, "tiny"),
            evaluations=bench.plan(preset).evaluations,
        )


def in_order(pixels: tuple[int, int]) -> Iterator[tuple[int, int, str]]:
    smaller, larger = pixels
    yield (larger, 1, "distilled")
    yield (smaller, 1, "fast")
    for batch in BATCHES:
        for px in (larger, smaller):
            for preset in FIRST:
                if (px, batch, preset) not in ((larger, 1, "distilled"), (smaller, 1, "fast")):
                    yield (px, batch, preset)


def name_of(px: int, batch: int, preset: str, how: str) -> str:
    return f"{px} px, {batch} x {preset}, {how}"


def use(bench: Bench, generator: UnclipGenerator, engine: str, networks: Sequence[Network]) -> None:
    generator.use(registry.in_memory(engine, networks))


def image(bench: Bench, generator: UnclipGenerator, preset: str, px: int, batch: int) -> Callable[[], Tensor]:
    """One call of the loop, from noise and tokens on the device to pixels there."""
    unclip, sizes = generator.unclip, bench.sizes
    unclip.size_px = px
    table = bench.plan(preset)
    tokens = torch.randn(batch, sizes.layout.tokens, sizes.unet.token_dim)
    start = torch.rand(batch, 3, px // 4, px // 4) if preset_of(preset).needs_start else None
    with torch.inference_mode():
        inputs = unclip.inputs(table, tokens, start=start)

    def draw() -> Tensor:
        with torch.inference_mode():
            return unclip.run(table, inputs)

    return draw


def floor_ms(bench: Bench, table: SamplerPlan, px: int, batch: int, decoder: str) -> float | None:
    """Keys and values once, every evaluation, the decoder; each by its operations or, where longer, its weights."""
    known = bench.known
    if f"{px} px, step" not in known:
        return None
    weights_bytes = bench.dtype.itemsize * known["weights"]
    total = 0.0
    for guided in table.guided:
        both = (1 + guided) * batch
        total += bench.floor_ms(operations=both * known[f"{px} px, step"], n_bytes=weights_bytes) or 0.0
    sets = batch * (1 + any(table.guided))
    once = sets * known["keys and values"] + batch * known[f"{px} px, {decoder} decoder"]
    return total + (bench.floor_ms(operations=once) or 0.0)
