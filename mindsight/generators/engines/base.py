"""What an engine takes and gives: networks of tensors, by name, and whole sampling loops made of them.

Knows nothing of what the networks compute. Letters: B batch, always the first axis of every input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mindsight.generators.engines.folder import EngineDescription

_TIMESTEPS = 1000.0

Loop = Callable[..., Tensor]
"""Tensors in, a tensor out: a sampler that calls networks. Its operations depend on shapes only, not on values."""
Report = Callable[[str, float], None]
"""What is being done, and the share of the whole that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """One argument of a network.

    shape : without the batch; () for a timestep, 0 to 1000
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Network:
    """A network as engines take it: tensors in, one tensor of the module's dtype out, every first axis the batch.

    inputs : in the order of the module's arguments, by the names that these have there
    """

    name: str
    module: nn.Module
    inputs: tuple[NetworkInput, ...]

    @property
    def weight(self) -> Tensor:
        """The first of its weights: its device and dtype are the network's."""
        return next(self.module.parameters())

    @property
    def precision(self) -> str:
        return str(self.weight.dtype).removeprefix("torch.")

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Fixed inputs, the same on every machine: normal numbers, and timesteps spread over their range."""
        draws = torch.Generator().manual_seed(0)
        drawn = [
            torch.randn((batch, *one.shape), generator=draws)
            if one.shape
            else _TIMESTEPS * torch.rand(batch, generator=draws)
            for one in self.inputs
        ]
        return tuple(values.to(self.weight.device, one.dtype) for values, one in zip(drawn, self.inputs, strict=True))


class HasNetworks(Protocol):
    """A generator that engines can run."""

    @property
    def digest(self) -> str:
        """sha256 of its configuration and weights."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """Its networks, "denoiser" first, on the device and in the precision that it was loaded with."""

    def use(self, engine: Engine) -> None:
        """From now on, run these networks on an engine."""


class Runner(Protocol):
    """A network, ready to run."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's output for inputs in its order; a tensor of its own, which later calls leave alone."""


class Engine(Protocol):
    """Networks ready to run."""

    @property
    def networks(self) -> Mapping[str, Runner]:
        """By the network's name."""

    def loop(self, sample: Loop) -> Loop:
        """The fastest that this engine makes of a sampling loop over its networks."""


class StoredEngine(Protocol):
    """What the module of an engine that lives in a folder has."""

    def runtime(self) -> str:
        """Package and version that build and run it. Raises NotInstalled (``engine.not_installed``)."""

    def capabilities(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The compute capabilities that are built for ("8.9"), of those asked for; () if no card is needed.

        Raises BadRequest (``engine.card``) for one that this runtime cannot build for.
        """

    def device(self) -> str:
        """What it runs on: the card's name, or "cpu"."""

    def build(self, network: Network, folder: Path, capabilities: Sequence[str], report: Report) -> str:
        """Write the network's files into ``folder``. Returns the digest of its graph, weights included."""

    def refuse(self, folder: Path, description: EngineDescription) -> None:
        """Raises ModelMismatch if this machine cannot run the folder's engine: no card, another one, a driver."""

    def load(self, folder: Path, description: EngineDescription, cache: bytes | None) -> Any:
        """The folder's engine. Verifies nothing: ``registry.load_verified`` does."""

    def cache(self, engine: Any) -> bytes | None:
        """What the engine compiled for this card while it ran, for the next ``load``; None if there is nothing."""


def output_in_pieces(run: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], most: int) -> Tensor:
    """Run a batch of any size on a network that takes ``most`` at once."""
    pieces = zip(*(torch.split(one, most) for one in inputs), strict=True)
    return torch.cat([run(piece) for piece in pieces])


@dataclass(frozen=True, slots=True)
class PlainEngine:
    """An engine whose loops run call by call."""

    networks: Mapping[str, Runner]

    def loop(self, sample: Loop) -> Loop:
        return torch.inference_mode()(sample)
