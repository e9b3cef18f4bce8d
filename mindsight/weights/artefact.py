"""A folder of weights that proves what it is: config, half-precision safetensors, and a manifest with their sha256.

Knows nothing of the networks it holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from mindsight.errors import ModelMismatch

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a folder held: the ``config`` it was saved with, its tensors as float32, and one digest of everything."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str


def write_artefact(folder: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write ``config.json``, ``{kind}.safetensors`` (fp16) and ``manifest.json``; return the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": json.dumps(config, indent=2, sort_keys=True).encode() + b"\n",
        f"{kind}.safetensors": save(
            {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in tensors.items()}
        ),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": FORMAT, "kind": kind, "sha256": sums}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return _digest(sums)


def read_artefact(folder: Path, kind: str) -> Artefact:
    """Read and verify a folder that ``write_artefact`` wrote.

    Raises
    ------
    ModelMismatch
        A file is missing, is not what the manifest says, or the folder holds another kind of model.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        found = (manifest["format"], manifest["kind"])
        sums = dict(manifest["sha256"])
        files = {name: (folder / name).read_bytes() for name in ("config.json", f"{found[1]}.safetensors")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(
            f"Expected a folder with a {kind} model and its manifest, got one that cannot be read "
            f"({type(error).__name__}). Restore the folder or train the model again."
        ) from error
    if found != (FORMAT, kind):
        raise ModelMismatch(f"Expected a {kind} of format {FORMAT}, got a {found[1]} of format {found[0]}.")
    for name, content in files.items():
        actual = hashlib.sha256(content).hexdigest()
        if actual != sums.get(name):
            raise ModelMismatch(
                f"Expected {name} of the {kind} with sha256 {str(sums.get(name))[:12]}, got {actual[:12]}. "
                "The file is damaged or was replaced: restore the folder."
            )
    tensors = {name: t.float() for name, t in load(files[f"{kind}.safetensors"]).items()}
    return Artefact(json.loads(files["config.json"]), tensors, _digest(sums))


def _digest(sums: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sums), sort_keys=True).encode()).hexdigest()
