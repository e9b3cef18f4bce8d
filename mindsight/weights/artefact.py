"""A folder of weights that proves what it is: config, half-precision safetensors, and a manifest with their sha256.

Knows nothing of the networks it holds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mindsight.files.digest import sha256_of_json
from mindsight.files.durable import write_durably
from mindsight.files.manifest import MANIFEST, Proof, read_manifest, sums_of_files, verify_folder, write_manifest
from mindsight.weights.state_dict import read_safetensors

_CONFIG = "config.json"
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a folder holds.

    config : what it was saved with
    tensors : as float32
    digest : of config and tensors together
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str


def write_artefact(folder: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write ``config.json``, ``{kind}.safetensors`` (float16) and ``manifest.json``; return the digest."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    write_durably(folder / _CONFIG, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
    write_durably(folder / _weights(kind), save(half))
    sums = sums_of_files(folder, (_CONFIG, _weights(kind)))
    write_manifest(folder, kind, sums)
    return sha256_of_json(sums)


def read_artefact(folder: Path, kind: str) -> Artefact:
    """Read and verify a folder that ``write_artefact`` wrote.

    Raises ModelMismatch: ``model.unreadable``, ``model.version`` if it holds another kind, ``model.tampered``.
    """
    proof = _proof(kind)
    sums = read_manifest(proof, folder, kind)
    verify_folder(proof, folder, sums, only=(_CONFIG, _weights(kind)))
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
    except (ValueError, RecursionError) as error:
        raise proof.unreadable(_CONFIG, type(error).__name__) from None
    tensors = {name: tensor.float() for name, tensor in read_safetensors(folder / _weights(kind)).items()}
    return Artefact(config, tensors, sha256_of_json(sums))


def built(artefact: Artefact, kind: str, make: Callable[[dict[str, Any]], N]) -> N:
    """The network that ``make`` makes of the configuration, with its weights.

    Raises ModelMismatch (``model.unreadable``) if there is no such network, or the weights are another's.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():  # no second is spent on random weights
            warnings.simplefilter("ignore")
            network = make(artefact.config)
        network.load_state_dict(artefact.tensors, assign=True)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise _proof(kind).unreadable(_CONFIG, f"one that does not fit the weights ({type(error).__name__})") from None
    return network


def kind_of(folder: Path) -> str:
    """The kind that a folder's manifest states, not verified. Raises ModelMismatch (``model.unreadable``)."""
    try:
        return str(json.loads((folder / MANIFEST).read_bytes())["kind"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        proof = Proof("model", "a model's folder", "restore the folder or train the model again")
        raise proof.unreadable(MANIFEST, type(error).__name__) from None


def _proof(kind: str) -> Proof:
    return Proof("model", f"the {kind}", "restore the folder or train the model again")


def _weights(kind: str) -> str:
    return f"{kind}.safetensors"
