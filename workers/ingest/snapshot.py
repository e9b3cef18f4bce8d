"""One file that holds a session's state and its place in the input log, replaced as a whole or not at all.

Knows nothing of what the state means: arrays and a JSON document in, the same out. safetensors, never pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mindsight.files.durable import write_durably

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
    payload = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata=header)
    write_durably(path, payload)


def read_snapshot(path: Path) -> Snapshot | None:
    """The snapshot, or None where there is none that this version can read: then the log is replayed from its start."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["snapshot"])
            if header["version"] != VERSION:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return Snapshot(header["position"], header["document"], arrays)
