"""A whole trajectory of the prior, with all that does not depend on the trial computed once.

Knows nothing of training. On a GPU the trajectory is captured as one CUDA graph for each batch size, and replayed: its
19 steps are some two thousand small kernels, which a processor cannot launch as fast as they run.

Axes: B batch, N tokens, D channels, T steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.prior_inference import PriorInference
from mindsight.decoders.mindeye2.prior_network import PriorNetwork, guide
from mindsight.decoders.mindeye2.schedule import Step, sampler_table

_WARM_UPS = 3  # before a capture, as CUDA's libraries allocate and choose kernels on their first calls


class Prior(Protocol):
    """A prior's network is all that a sampler needs of it."""

    net: PriorNetwork


class Sampler:
    """One sampler: table, time tokens, positions, null predictions and the network's inference form are made once.

    The null prediction of guidance depends on time alone (both token sets are nulled), so guidance costs nothing per
    trial. Make a new one when the prior's weights change.

    steps, cond_scale : see ``DiffusionPrior.sample``
    head_multiple : heads are padded to a multiple of it; by default to what fused attention wants of the device
    """

    @torch.inference_mode()
    def __init__(
        self, prior: Prior, steps: int = 20, cond_scale: float = 1.0, head_multiple: int | None = None
    ) -> None:
        net = prior.net
        query_ND = net.learned_query
        if head_multiple is None:
            head_multiple = 1 if query_ND.device.type == "cpu" else 16 // query_ND.element_size()
        self._evaluate = PriorInference(net.causal_transformer, query_ND, head_multiple)
        self._cond_scale, self._query_ND = cond_scale, query_ND
        self._table: tuple[Step, ...] = sampler_table(steps)
        times_T = torch.tensor([step.t for step in self._table], device=query_ND.device)
        self._time_T1D = net.time_tokens(times_T)
        self._null_TND = net.null(self._time_T1D, net.positions()) if cond_scale != 1.0 else None
        self._graphs: dict[int, _Graph] = {}

    @property
    def n_draws(self) -> int:
        """Normal draws of one trajectory: the start, and one for every step but the last."""
        return 1 + sum(step.noise > 0 for step in self._table)

    @torch.inference_mode()
    def draws(self, seed: int, batch: int) -> list[Tensor]:
        """The noises (B, N, D) that a generator with this seed gives, on the device of the network."""
        like_BND = self._query_ND.expand(batch, -1, -1)
        return list(islice(_normal_draws(like_BND, torch.Generator().manual_seed(seed)), self.n_draws))

    @torch.inference_mode()
    def __call__(
        self, cond_BND: Tensor, noises: Iterable[Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Image tokens (B, N, D); see ``DiffusionPrior.sample``."""
        draws = noises if noises is not None else _normal_draws(cond_BND, generator)
        if not cond_BND.is_cuda:
            return self.trajectory(cond_BND, iter(draws))
        graph = self._graphs.get(len(cond_BND))
        if graph is None:
            graph = self._graphs[len(cond_BND)] = _Graph(self, cond_BND)
        return graph.replay(cond_BND, islice(draws, self.n_draws))

    def trajectory(self, cond_BND: Tensor, draws: Iterator[Tensor]) -> Tensor:
        """The loop itself, without a graph. Its operations depend on no value, so that it can be captured."""
        image_BND = next(draws)
        for number, step in enumerate(self._table):
            time_B1D = self._time_T1D[number].expand(len(cond_BND), 1, -1)
            clean_BND = self._evaluate(image_BND, time_B1D, cond_BND)
            if self._null_TND is not None:
                clean_BND = guide(clean_BND, self._null_TND[number], self._cond_scale)
            if step.noisy == 0.0 and step.clean == 1.0:
                image_BND = clean_BND
                continue
            image_BND = step.clean * clean_BND + step.noisy * image_BND
            if step.noise:
                image_BND = image_BND + step.noise * next(draws)
        return image_BND


class _Graph:
    """One captured trajectory: its inputs are copied into place, its output out of it."""

    def __init__(self, sampler: Sampler, like_BND: Tensor) -> None:
        self._cond_BND = torch.zeros_like(like_BND)
        self._draws = [torch.zeros_like(like_BND) for _ in range(sampler.n_draws)]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                sampler.trajectory(self._cond_BND, iter(self._draws))
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # another thread may allocate meanwhile, for a reconstruction of another session
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._image_BND = sampler.trajectory(self._cond_BND, iter(self._draws))

    def replay(self, cond_BND: Tensor, draws: Iterable[Tensor]) -> Tensor:
        self._cond_BND.copy_(cond_BND)
        for place, draw in zip(self._draws, draws, strict=True):
            place.copy_(draw)
        self._graph.replay()
        return self._image_BND.clone()


def _normal_draws(like: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
    """In float32 on the generator's own device: the same seed then draws the same tokens whatever the network runs on
    and in whatever precision. To a card they are copied while the next are drawn.
    """
    device = generator.device if generator is not None else like.device
    pinned = like.is_cuda and device.type == "cpu"
    while True:
        drawn = torch.randn(like.shape, generator=generator, device=device, pin_memory=pinned)
        yield drawn.to(like.device, non_blocking=True).to(like.dtype)
