"""Volumes on the console's own disk until the gateway has them. Knows nothing of the network.

One folder per session, one file per volume; a file that is there was not yet acknowledged.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mindsight.blobs.store import fsync_folder, storage_errors

_NAME = re.compile(r"run-(\d+)_volume-(\d+)\.msv")


@dataclass(frozen=True, order=True)
class Spooled:
    """A volume that waits: which, and its payload's file."""

    run: int
    index: int
    path: Path

    def read(self) -> bytes:
        return self.path.read_bytes()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def put_aside(self) -> None:
        """It waits no longer, but is kept for somebody to look at."""
        refused = self.path.parent / "refused"
        refused.mkdir(exist_ok=True)
        self.path.replace(refused / self.path.name)


class Spool:
    """What waits for one session's acknowledgement. Raises StorageFull where a volume cannot be made durable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, run: int, index: int, payload: bytes) -> Spooled:
        """The payload is on the disk when this returns."""
        path = self.folder / f"run-{run:04d}_volume-{index:06d}.msv"
        temporary = path.with_suffix(".tmp")
        with storage_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_folder(self.folder)
        return Spooled(run, index, path)

    def waiting(self) -> list[Spooled]:
        """In the order in which they are to be sent."""
        if not self.folder.is_dir():
            return []
        matches = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir())
        return sorted(Spooled(int(match[1]), int(match[2]), path) for path, match in matches if match)
