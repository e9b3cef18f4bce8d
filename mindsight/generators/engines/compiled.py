"""torch.compile, and one CUDA graph of a whole sampling loop: sampler, U-Net and decoder are one replay.

Capturing records kernels and addresses, no Python: whatever varies from one image to the next must be an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import BadRequest
from mindsight.generators.engines.base import Loop, Network, Runner

_WARM_UPS = 3
# the graph is ours: inductor's own graphs inside would be captured twice
_MODE = "max-autotune-no-cudagraphs"

Record = Callable[[Loop, Sequence[Tensor]], Callable[[], Tensor]]
"""Makes of a loop and the tensors that it reads a replay without arguments, whose result is always at one place."""


def load(networks: Sequence[Network]) -> CompiledEngine:
    """Compile on the first call of each network and shape, which takes minutes at SDXL's size.

    Raises BadRequest (``engine.card``) where a network is not on a CUDA card.
    """
    for one in networks:
        if one.weight.device.type != "cuda":
            raise BadRequest(
                f"expected the {one.name} on a CUDA card for a compiled engine, got {one.weight.device}: use eager or"
                " onnx on this machine",
                code="engine.card",
            )
    inference = torch.inference_mode()
    return CompiledEngine({one.name: inference(torch.compile(one.module.eval(), mode=_MODE)) for one in networks})


@dataclass(frozen=True, slots=True)
class CompiledEngine:
    networks: dict[str, Runner]

    def loop(self, sample: Loop) -> Loop:
        return RecordedLoop(sample, cuda_graph)


@dataclass(slots=True)
class RecordedLoop:
    """A loop that is recorded once for each set of shapes, and replayed from then on.

    Inputs are copied to where the recording reads them, the result out of where it writes it.
    """

    sample: Loop
    record: Record
    _recorded: dict[Any, tuple[list[Tensor], Callable[[], Tensor]]] = field(default_factory=dict)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        key = tuple((one.shape, one.dtype, one.device) for one in inputs)
        if key not in self._recorded:
            places = [torch.empty_like(one, memory_format=torch.contiguous_format).copy_(one) for one in inputs]
            self._recorded[key] = places, self.record(self.sample, places)
        places, replay = self._recorded[key]
        for place, one in zip(places, inputs, strict=True):
            place.copy_(one)
        return replay().clone()


def cuda_graph(sample: Loop, places: Sequence[Tensor]) -> Callable[[], Tensor]:
    """Record one run of a loop. It runs a few times before, so that kernels are compiled and chosen."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            sample(*places)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = sample(*places)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
