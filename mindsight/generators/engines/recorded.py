"""A whole sampling loop as one CUDA graph: sampler, U-Net and decoder are one replay, without Python between kernels.

Capturing records kernels and addresses, no Python: whatever varies from one image to the next must be an input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import BadRequest
from mindsight.generators.engines.base import Loop, Network, Runner

_WARM_UPS = 2  # each runs every kernel of a step many times

Record = Callable[[Loop, Sequence[Tensor]], Callable[[], Tensor]]
"""Makes of a loop and the tensors that it reads a replay without arguments, whose result is always in one buffer."""


class RecordingEngine:
    """An engine on a CUDA card, each of whose loops is one graph.

    All graphs work in the same memory, since no two of them run at once, and a result is copied out of it.
    """

    def __init__(self, networks: Mapping[str, Runner]) -> None:
        self.networks = networks
        self._pool: Any = None

    def loop(self, sample: Loop) -> Loop:
        return RecordedLoop(sample, self._record)

    def _record(self, sample: Loop, buffers: Sequence[Tensor]) -> Callable[[], Tensor]:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        return _cuda_graph(sample, buffers, self._pool)


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
            buffers = [torch.empty_like(one, memory_format=torch.contiguous_format).copy_(one) for one in inputs]
            self._recorded[key] = buffers, self.record(self.sample, buffers)
        buffers, replay = self._recorded[key]
        for buffer, one in zip(buffers, inputs, strict=True):
            buffer.copy_(one)
        return replay().clone()


def require_card(engine: str, networks: Sequence[Network]) -> None:
    """Raises BadRequest (``engine.card``) if a network is not on a CUDA card."""
    for one in networks:
        if one.weight.device.type != "cuda":
            raise BadRequest(
                f"expected the {one.name} on a CUDA card for the engine {engine}, got {one.weight.device}: use eager or"
                " onnx on this machine",
                code="engine.card",
            )


def _cuda_graph(sample: Loop, buffers: Sequence[Tensor], pool: Any) -> Callable[[], Tensor]:
    """Record one run of a loop. It runs a few times before, so that kernels are compiled and chosen."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            sample(*buffers)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # another thread may allocate meanwhile, for the ranking of the next trial
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = sample(*buffers)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
