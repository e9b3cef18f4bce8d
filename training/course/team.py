"""The processes that train together: one, or as many as ``torchrun`` starts.

Knows nothing of what is trained. Each process has the same weights, takes its share of a batch, and waits for the mean
gradient of all.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from mindsight.errors import BadRequest
from mindsight.settings import read_settings
from mindsight.weights.device import choose

_PATIENCE = timedelta(hours=2)  # while one process reads all images, or measures


@dataclass(frozen=True, slots=True)
class Team:
    """One process among ``size``, and torch's name of the device that it trains on."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether it is the process that writes and reports."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size == 1:
            return
        given = list(tensors)
        waits = [distributed.all_reduce(tensor, async_op=True) for tensor in given]
        for tensor, wait in zip(given, waits, strict=True):
            wait.wait()
            tensor.div_(self.size)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Team]:
    """The team that this process was started in. Raises BadRequest (``settings.device``, ``training.cards``)."""
    device = read_settings().device
    if not distributed.is_torchelastic_launched():
        yield Team(device=choose(device).device)
        return
    local, cards = distributed.get_node_local_rank(0), torch.cuda.device_count()
    on_cards = device == "auto" and torch.cuda.is_available()
    if not on_cards and device not in ("auto", "cpu"):
        raise BadRequest(
            f"expected MINDSIGHT_DEVICE=auto or cpu for several processes, got {device}: each takes a card of its own",
            code="training.cards",
        )
    if on_cards and local >= cards:
        raise BadRequest(
            f"expected as many processes as cards, {cards}, got {local + 1}: start fewer (--nproc-per-node)",
            code="training.cards",
        )
    own = f"cuda:{local}" if on_cards else "cpu"
    if on_cards:
        torch.cuda.set_device(own)
    # When this module is imported, its functions keep the group that is there as their default, and torch's optimisers
    # import it. A group that is kept outlives its end, and its threads (gloo's) can abort a process that has finished.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if on_cards else "gloo", timeout=_PATIENCE)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), own)
    finally:
        distributed.destroy_process_group()
