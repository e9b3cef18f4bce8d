"""Sections of gpu.py: one evaluation of the U-Net without each of what makes it fast, in 8 bits, and compiled whole.

Each is recorded as one CUDA graph, so that what the processor takes to start kernels hides nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gpu_bench import Bench
from gpu_networks import example, make_generator, make_tiny
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mindsight.generators.engines import registry, verify
from mindsight.generators.engines.base import Loop, Network
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.generators.unclip.sdxl.vae import LatentDecoder

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "written out": SDPBackend.MATH,
}


def speed_ups(bench: Bench) -> None:
    generator = sized(bench)
    unclip, modules = generator.unclip, generator.unclip.modules
    networks = {one.name: one for one in generator.networks}
    latent, timestep, keys_values, vector = example(bench, networks["denoiser"].inputs)
    [tokens] = example(bench, networks["keys_values"].inputs)
    floor = step_floor_ms(bench)

    def plain(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        result: Tensor = unclip.unet(latent, timestep, tokens, class_labels=vector, return_dict=False)[0]
        return result

    def one_by_one(*inputs: Tensor) -> Tensor:
        halves = zip(*(tensor.chunk(2) for tensor in inputs), strict=True)
        return torch.cat([modules.denoiser(*half) for half in halves])

    given = (latent, timestep, keys_values, vector)
    two = example(bench, networks["denoiser"].inputs, batch=2)
    row(bench, "a step", modules.denoiser, given, floor)
    row(bench, "a step, keys and values in it", plain, (latent, timestep, tokens, vector), floor)
    row(bench, "keys and values, once", modules.keys_values, (tokens,))
    row(bench, "a guided step, one batch of 2", modules.denoiser, two, step_floor_ms(bench, 2))
    row(bench, "a guided step, one after the other", one_by_one, two, step_floor_ms(bench, 2))
    for name, kernel in KERNELS.items():
        row(bench, f"a step, attention {name}", with_kernel(modules.denoiser, kernel), given, floor)
    for name, decoder in decoders(bench, generator):
        row(bench, f"decoder, {name}", decoder, (latent.float(),))
    unclip.unet.to(memory_format=torch.contiguous_format)  # the denoiser's weights as well
    row(bench, "a step, channels first", modules.denoiser, given, floor)
    unclip.unet.to(memory_format=torch.channels_last)
    compiled_row(bench, "a step, compiled", "compiled", networks["denoiser"], floor)
    compiled_row(bench, "a step, in 8 bits", "fp8", networks["denoiser"], None)


def whole(bench: Bench) -> None:
    network = sized(bench).networks[0]
    made = torch.compile(network.module, dynamic=False)
    row(bench, "a step, compiled as a whole", made, example(bench, network.inputs), step_floor_ms(bench))


def sized(bench: Bench) -> UnclipGenerator:
    generator = make_generator(bench)
    generator.unclip.size_px = bench.sizes.pixels[1]
    return generator


def row(
    bench: Bench, name: str, work: Callable[..., Tensor], inputs: Sequence[Tensor], floor_ms: float | None = None
) -> None:
    bench.row(name, lambda: recorded(bench, work, inputs), floor_ms)


def recorded(bench: Bench, work: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], Tensor]:
    """One call as the engine "graphed" runs a loop; call by call where there is no card."""
    loop: Loop = registry.in_memory("graphed" if bench.on_card else "eager", []).loop(work)
    return lambda: loop(*inputs)


def compiled_row(bench: Bench, name: str, engine: str, network: Network, floor_ms: float | None) -> None:
    """A step on an engine that compiles, with its relative error beside eager."""
    try:
        made = registry.in_memory(engine, [network])
        error = verify.error(made, network, 1)
    except Exception as refused:  # no card, or not one for this engine
        bench.failed(name, refused)
        return
    inputs = example(bench, network.inputs)
    bench.row(
        name, lambda: recorded(bench, made.networks["denoiser"], inputs), floor_ms, relative_error=float(f"{error:.2g}")
    )


def with_kernel(denoiser: nn.Module, kernel: SDPBackend) -> Loop:
    def run(*inputs: Tensor) -> Tensor:
        with sdpa_kernel(kernel):
            result: Tensor = denoiser(*inputs)
        return result

    return run


def decoders(bench: Bench, generator: UnclipGenerator) -> list[tuple[str, Any]]:
    vae = generator.unclip.vae
    return [
        ("tiny", make_tiny(bench)),
        ("full, float32", LatentDecoder(vae)),
        ("full, bfloat16", LatentDecoder(copy.deepcopy(vae).to(torch.bfloat16))),
    ]


def step_floor_ms(bench: Bench, batch: int = 1) -> float | None:
    known, px = bench.known, bench.sizes.pixels[1]
    if f"{px} px, step" not in known:
        return None
    return bench.floor_ms(operations=batch * known[f"{px} px, step"], n_bytes=bench.dtype.itemsize * known["weights"])
