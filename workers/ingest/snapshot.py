"""One file with a session's state and its position in the input log, replaced as a whole or not at all.

Knows nothing of what the state means: arrays and a JSON document in, the same out. safetensors, never pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.files.durable import write_durably
from mindsight.weights.tensors import pack_tensors, read_metadata, read_tensors

VERSION = 3  # of all that a snapshot holds, so also of what ``IngestSession.state`` gives


@dataclass(frozen=True, eq=False)
class Snapshot:
    """``position`` is the number of the last input entry that went into ``arrays`` and ``document``."""

    position: int
    document: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def write_snapshot(path: Path, position: int, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace the snapshot durably. Raises StorageFull."""
    header = {"snapshot": json.dumps({"version": VERSION, "position": position, "document": document})}
    write_durably(path, pack_tensors(arrays, header))


def read_snapshot(path: Path) -> Snapshot | None:
    """The snapshot; None if this version can read none, and the log is replayed from its start."""
    try:
        header = json.loads(read_metadata(path)["snapshot"])
        if header["version"] != VERSION:
            return None
        arrays = read_tensors(path)
    except (ModelMismatch, KeyError, TypeError, ValueError):
        return None
    return Snapshot(header["position"], header["document"], arrays)
