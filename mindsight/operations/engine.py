"""What ``mindsight engine`` does: a generator's engines built, listed, compared with eager, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mindsight.errors import BadRequest, MindsightError
from mindsight.generators.engines import registry
from mindsight.generators.engines import verify as verify_module
from mindsight.generators.engines.base import Engine, Network, Report
from mindsight.generators.engines.folder import (
    EngineDescription,
    Verified,
    engines_in,
    read_description,
    read_verified,
)
from mindsight.generators.registry import load_generator
from mindsight.weights.device import Placement

PRECISION = {"onnx": "float32", "tensorrt": "float16"}  # the processor computes in single precision, a card in half
_BATCHES = (1, 2)
_REPEATS = 10


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder of an engine: its description, or in one line what is wrong with it."""

    folder: Path
    description: EngineDescription | None
    verified: Verified | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """The median of a network's times on one engine, and its relative error beside eager, root mean square."""

    engine: str
    network: str
    batch: int
    milliseconds: float
    error: float


def build(generator: Path, engine: str, engines: Path, cards: Sequence[str], report: Report) -> Path:
    """Build an engine for a generator's folder. Returns the engine's folder, not yet verified.

    cards : compute capabilities; none for the engine's own choice

    Raises what ``registry.build`` does; ModelMismatch (``engine.generator``).
    """
    registry.stored(engine).capabilities(cards)  # refused before the weights are read
    source, networks = _networks(generator, PRECISION[engine], "cpu")
    return registry.build(engine, networks, source, engines, cards, report)


def listed(engines: Path) -> list[Listed]:
    """The engines in a folder. Their large files are not read."""

    def one(folder: Path) -> Listed:
        try:
            return Listed(folder, read_description(folder), read_verified(folder))
        except MindsightError as error:
            return Listed(folder, None, None, f"{error} [{error.code}]")

    return [one(folder) for folder in engines_in(engines)]


def verify(engine: Path, generator: Path) -> Verified:
    """Compare an engine with its generator on this machine, and record that it may be used.

    Raises what ``registry.verify_engine`` does.
    """
    description = read_description(engine)
    source, networks = _networks(generator, PRECISION[description.engine], _device(description.engine))
    return registry.verify_engine(engine, networks, source)


def bench(generator: Path, engines: Path) -> Iterator[Timing]:
    """Time a generator's networks on every engine that this machine can use: those made here, and verified ones."""
    device = _device("compiled")
    precision = PRECISION["tensorrt"] if device != "cpu" else PRECISION["onnx"]
    source, networks = _networks(generator, precision, device)
    for name in registry.IN_MEMORY:
        try:
            engine = registry.in_memory(name, networks)
        except BadRequest:  # there is no card, or not one for this engine
            continue
        yield from _timings(name, engine, networks)
    for one in listed(engines):
        if one.description is not None and one.description.source == source and one.verified is not None:
            made_of = _networks(generator, PRECISION[one.description.engine], _device(one.description.engine))[1]
            yield from _timings(one.folder.name, registry.load_verified(one.folder, source), made_of)


def _timings(name: str, engine: Engine, networks: Sequence[Network]) -> Iterator[Timing]:
    for network in networks:
        for batch in _BATCHES:
            inputs, run = network.example(batch), engine.networks[network.name]
            times_s = []
            for _ in range(1 + _REPEATS):  # the first one compiles
                started = time.perf_counter()
                run(*inputs)
                if inputs[0].is_cuda:
                    torch.cuda.synchronize()
                times_s.append(time.perf_counter() - started)
            error = verify_module.error(engine, network, batch)
            yield Timing(name, network.name, batch, 1e3 * statistics.median(times_s[1:]), error)


def _networks(folder: Path, precision: str, device: str) -> tuple[str, tuple[Network, ...]]:
    """Digest of the generator, and its networks."""
    generator = registry.as_runnable(load_generator(folder, Placement(device, precision)))
    return generator.digest, generator.networks


def _device(engine: str) -> str:
    return "cuda:0" if engine != "onnx" and torch.cuda.is_available() else "cpu"
