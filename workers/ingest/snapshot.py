"""One file with a session's state and its position in the input log, replaced as a whole or not at all.

Knows nothing of what the state means: arrays and a JSON document in, the same out. safetensors, never pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.files.durable import write_durably
from mindsight.weights.tensors import pack_tensors, read_metadata, read_tensors

VERSION = 5  # of all that a snapshot holds, so also of what ``IngestSession.state`` gives


@dataclass(frozen=True, eq=False)
class Snapshot:
    """``position`` is the number of the last input entry that went into ``arrays`` and ``document``."""

    position: int
    document: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def write_snapshot(path: Path, position: int, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace the snapshot durably. Raises StorageFull."""
    described = json.dumps({"version": VERSION, "position": position, "document": document})
    write_durably(path, pack_tensors(arrays, {"snapshot": described, "sha256": _digest(described, arrays)}))


def read_snapshot(path: Path) -> Snapshot | None:
    """The snapshot; None if it is not whole or this version can read none: the log is then replayed from its start."""
    try:
        metadata = read_metadata(path)
        described = json.loads(metadata["snapshot"])
        if described["version"] != VERSION:
            return None
        arrays = read_tensors(path)
        if metadata["sha256"] != _digest(metadata["snapshot"], arrays):
            return None
    except (ModelMismatch, KeyError, TypeError, ValueError, RecursionError):
        return None
    return Snapshot(described["position"], described["document"], arrays)


def _digest(described: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(described.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
