"""The engines by name. Each is imported when it is asked for, and nowhere else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.files.durable import publish_folder
from mindsight.generators.engines import folder as folders
from mindsight.generators.engines import verify
from mindsight.generators.engines.base import Engine, HasNetworks, Network, Report, StoredEngine
from mindsight.generators.engines.folder import EngineDescription, Verified

IN_MEMORY = ("eager", "graphed", "compiled", "fp8")
STORED = ("onnx", "tensorrt")


def in_memory(name: str, networks: Sequence[Network]) -> Engine:
    """An engine that is made of the networks on the machine that runs it. Raises BadRequest (``engine.card``)."""
    made: Engine = _module(name, IN_MEMORY).load(networks)
    return made


def stored(name: str) -> StoredEngine:
    """An engine that is built once and kept in a folder. Raises BadRequest (``engine.unknown``)."""
    return cast(StoredEngine, _module(name, STORED))


def build(
    name: str, networks: Sequence[Network], source: str, engines: Path, cards: Sequence[str], report: Report
) -> Path:
    """Build an engine into a folder below ``engines``, or find the same one there.

    source : digest of the generator whose networks these are
    cards : compute capabilities, "8.9"; none for the engine's own choice

    Raises BadRequest (``engine.card``, ``engine.build``), NotInstalled (``engine.not_installed``), StorageFull.
    """
    engine = stored(name)
    runtime, capabilities = engine.runtime(), engine.capabilities(cards)
    work = [sum(weight.numel() for weight in one.module.parameters()) for one in networks]
    partial = engines / f".{name}-{source[:12]}.partial"
    folders.make_empty(partial)
    graphs = {}
    for number, one in enumerate(networks):
        before, share = sum(work[:number]) / sum(work), work[number] / sum(work)

        def report_of_all(what: str, done: float, before: float = before, share: float = share) -> None:
            report(what, before + share * done)

        graphs[one.name] = engine.build(one, partial, capabilities, report_of_all)
    description = EngineDescription(
        engine=name,
        source=source,
        graphs=graphs,
        precision={one.name: one.precision for one in networks},
        runtime=runtime,
        exporter=f"torch {torch.__version__}",
        capabilities=capabilities,
    )
    folders.write_description(partial, description)
    report("built", 1.0)
    folder = engines / description.key
    folders.remove(folder)
    publish_folder(partial, folder)
    return folder


def verify_engine(folder: Path, networks: Sequence[Network], source: str) -> Verified:
    """Run a folder's engine beside its eager networks, and record that they agree.

    Raises what ``load_verified`` does, but for ``engine.unverified``; ModelMismatch (``engine.differs``).
    """
    description = _admit(folder, source)
    _require_networks(description, networks)
    engine = stored(description.engine)
    loaded = cast(Engine, engine.load(folder, description, None))
    errors = verify.errors(loaded, networks)
    return folders.write_verified(folder, engine.device(), errors, engine.cache(loaded))


def load_verified(folder: Path, source: str) -> Engine:
    """A folder's engine, for work. Nothing of it is loaded before all of it has been compared with its digests.

    source : digest of the generator

    Raises ModelMismatch: ``engine.unreadable``, ``.version``, ``.tampered``; ``.source``, ``.runtime``, ``.card``,
    ``.driver``, ``.unusable`` if it does not fit; ``.unverified``. NotInstalled (``engine.not_installed``).
    """
    description = _admit(folder, source)
    engine = stored(description.engine)
    verified = folders.read_verified(folder)
    if verified is None or verified.device != engine.device():
        raise ModelMismatch(
            f"expected an engine that was compared with the eager networks on {engine.device()}, got {folder.name},"
            " which was not: run mindsight engine verify on this machine",
            code="engine.unverified",
        )
    return cast(Engine, engine.load(folder, description, folders.read_cache(folder, verified)))


def put_to_work(name: str, generator: object, engines: Path) -> None:
    """Make a generator run its networks on an engine: one that is made here, or a verified one below ``engines``.

    With "eager" it stays as it was loaded.

    Raises what ``in_memory`` and ``load_verified`` do; ModelMismatch (``engine.generator``, ``.networks``,
    ``.precision``).
    """
    if name == "eager":
        return
    runnable = as_runnable(generator)
    if name in IN_MEMORY:
        runnable.use(in_memory(name, runnable.networks))
        return
    description = folders.read_description(engines / name)
    _require_networks(description, runnable.networks)
    engine = load_verified(engines / name, runnable.digest)
    built, here = description.precision, {one.name: one.precision for one in runnable.networks}
    if dict(built) != here:
        raise ModelMismatch(
            f"expected an engine of {_listed(here)}, as the generator runs on this device, got {_listed(built)}: use"
            " onnx on the CPU and tensorrt on a card",
            code="engine.precision",
        )
    runnable.use(engine)


def as_runnable(generator: object) -> HasNetworks:
    """The generator, if engines can run its networks. Raises ModelMismatch (``engine.generator``)."""
    if not hasattr(generator, "networks"):
        raise ModelMismatch(
            f"expected a generator whose networks engines can run, got {type(generator).__name__}: it runs eager only",
            code="engine.generator",
        )
    return cast(HasNetworks, generator)


def _require_networks(description: EngineDescription, networks: Sequence[Network]) -> None:
    """Raises ModelMismatch (``engine.networks``) for an engine of other networks, such as an earlier version's."""
    if (names := {one.name for one in networks}) != set(description.graphs):
        raise ModelMismatch(
            f"expected an engine of {', '.join(sorted(names))}, got one of {', '.join(description.graphs)}: "
            f"{folders.PROOF.remedy}",
            code="engine.networks",
        )


def _listed(precision: Mapping[str, str]) -> str:
    return ", ".join(f"{name} in {kind}" for name, kind in sorted(precision.items()))


def _admit(folder: Path, source: str) -> EngineDescription:
    description = folders.read_description(folder)
    engine = stored(description.engine)
    folders.require(description, source=source, runtime=engine.runtime())
    folders.verify_files(folder)
    engine.refuse(folder, description)
    return description


def _module(name: str, known: Sequence[str]) -> Any:
    if name not in known:
        raise BadRequest(f"expected an engine of {', '.join(known)}, got {name!r}: choose one", code="engine.unknown")
    return importlib.import_module(f"mindsight.generators.engines.{name}")
