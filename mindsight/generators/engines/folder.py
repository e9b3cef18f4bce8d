"""An engine's folder: its files, what they were made of and for, their sha256, and the proof that they compute right.

``engine.json`` describes the engine; ``manifest.json``, written last, lists the sha256 of it and of every file that the
runtime reads. ``verified.json`` comes later, from a run beside the eager networks on the card, and names the manifest
that it is the proof of. Digests show a file that was changed by mistake, or copied in part. They are no signature: an
engine is code, and its folder must be as hard to write to as the program itself.

Knows nothing of how an engine is built or run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindsight.errors import ModelMismatch
from mindsight.files.digest import sha256_of, sha256_of_file, sha256_of_json
from mindsight.files.durable import make_folder, write_durably
from mindsight.files.manifest import MANIFEST, Proof, files_in, read_manifest, sums_of, verify_folder, write_manifest

PROOF = Proof(prefix="engine", what="the engine", remedy="build it again (mindsight engine build)")
_KIND = "engine"
_DESCRIPTION = "engine.json"
_VERIFIED = "verified.json"
_CACHE = "runtime.cache"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineDescription:
    """What an engine was made of, and for.

    engine : "onnx" or "tensorrt"
    source : digest of the generator
    graphs : network -> digest of its ONNX graph and weights
    precision : network -> dtype of its weights
    runtime, exporter : package and version
    capabilities : of the cards that it runs on ("8.9"); empty if no card is needed
    """

    engine: str
    source: str
    graphs: Mapping[str, str]
    precision: Mapping[str, str]
    runtime: str
    exporter: str
    capabilities: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the engine: another graph, version, card or precision is another engine."""
        return f"{self.engine}-{sha256_of_json(asdict(self))[:16]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """The engine was run beside the eager networks.

    manifest : sha256 of the manifest that was there
    device : the card, or "cpu"
    errors : network -> relative error of its output
    cache : sha256 of what the runtime compiled for the card; None if there is nothing
    """

    manifest: str
    device: str
    errors: Mapping[str, float]
    cache: str | None


def make_empty(folder: Path) -> None:
    """An empty folder, whatever was there."""
    remove(folder)
    make_folder(folder)


def remove(folder: Path) -> None:
    """Remove a folder of an engine, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def write_description(folder: Path, description: EngineDescription) -> None:
    """Complete a folder that holds all other files: the description, then the manifest."""
    _write_json(folder / _DESCRIPTION, asdict(description))
    write_manifest(folder, _KIND, sums_of(folder))


def read_description(folder: Path) -> EngineDescription:
    """What the folder says of itself, its large files not verified.

    Raises ModelMismatch: ``engine.missing``; ``engine.unreadable``, ``engine.version``, and ``engine.tampered`` for the
    description alone.
    """
    if not folder.is_dir():
        names = ", ".join(path.name for path in engines_in(folder.parent)) or "none there yet"
        raise ModelMismatch(
            f"expected the name of an engine ({names}), got {folder.name!r}: choose one, or run mindsight engine build",
            code="engine.missing",
        )
    sums = read_manifest(PROOF, folder, _KIND)
    verify_folder(PROOF, folder, sums, only=[_DESCRIPTION])
    try:
        found = json.loads((folder / _DESCRIPTION).read_bytes())
        return EngineDescription(**found | {"capabilities": tuple(found["capabilities"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PROOF.unreadable(_DESCRIPTION, f"one that cannot be read ({type(error).__name__})") from None


def verify_files(folder: Path) -> None:
    """Compare every file with its sha256. Raises ModelMismatch (``engine.unreadable``, ``engine.tampered``)."""
    sums = read_manifest(PROOF, folder, _KIND)
    if added := set(files_in(folder)) - {MANIFEST, _VERIFIED, _CACHE, *sums}:
        raise PROOF.tampered(min(added), f"not in {MANIFEST}")
    verify_folder(PROOF, folder, sums, only=sums)


def write_verified(folder: Path, device: str, errors: Mapping[str, float], cache: bytes | None) -> Verified:
    """Record that the engine, as its manifest is now, computes what the eager networks do."""
    if cache is not None:
        write_durably(folder / _CACHE, cache)
    record = Verified(
        manifest=sha256_of_file(folder / MANIFEST),
        device=device,
        errors=errors,
        cache=None if cache is None else sha256_of(cache),
    )
    _write_json(folder / _VERIFIED, asdict(record))
    return record


def read_verified(folder: Path) -> Verified | None:
    """The record, if there is one for the manifest that is there now."""
    try:
        record = Verified(**json.loads((folder / _VERIFIED).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PROOF.unreadable(_VERIFIED, f"one that cannot be read ({type(error).__name__})") from None
    return record if record.manifest == sha256_of_file(folder / MANIFEST) else None


def read_cache(folder: Path, verified: Verified) -> bytes | None:
    """What the runtime compiled when the engine was verified. Raises ModelMismatch (``engine.tampered``)."""
    if verified.cache is None:
        return None
    try:
        content = (folder / _CACHE).read_bytes()
    except FileNotFoundError:
        return None  # it is compiled again
    if sha256_of(content) != verified.cache:
        raise PROOF.tampered(_CACHE, "changed (its digest differs)")
    return content


def engines_in(folder: Path) -> list[Path]:
    """Folders of engines, whole or damaged, in the order of their names."""
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _write_json(path: Path, document: Any) -> None:
    write_durably(path, json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def require(description: EngineDescription, *, source: str, runtime: str) -> None:
    """Raises ModelMismatch for the engine of another generator (``engine.source``) or version (``engine.runtime``)."""
    if description.source != source:
        raise ModelMismatch(
            f"expected the engine of generator {source[:12]}, got one of {description.source[:12]}: {PROOF.remedy}",
            code="engine.source",
        )
    if description.runtime != runtime:
        raise ModelMismatch(
            f"expected an engine built by {runtime}, got one by {description.runtime}: {PROOF.remedy}",
            code="engine.runtime",
        )
