"""Volumes on the console's own disk until the gateway has them. Knows nothing of the network.

One folder per session, one file per volume, removed once the gateway has acknowledged the volume.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mindsight.files.durable import make_folder, rename_durably, write_durably

_NAME = re.compile(r"run-(\d+)_volume-(\d+)\.msv")


@dataclass(frozen=True, order=True)
class Spooled:
    """A volume that is not yet acknowledged: its run and index, and the file of its payload."""

    run: int
    index: int
    path: Path

    def read(self) -> bytes:
        return self.path.read_bytes()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def put_aside(self) -> None:
        """Keep it in the folder ``refused``, for the operator to look at; it is not sent again."""
        refused = self.path.parent / "refused"
        make_folder(refused)
        rename_durably(self.path, refused / self.path.name)


class Spool:
    """One session's volumes that are not yet acknowledged. Raises StorageFull if one cannot be made durable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, run: int, index: int, payload: bytes) -> Spooled:
        """The payload is on the disk when this returns."""
        path = self.folder / f"run-{run:04d}_volume-{index:06d}.msv"
        write_durably(path, payload, mode=0o600)  # a brain, on a computer that others may use
        return Spooled(run, index, path)

    def waiting(self) -> list[Spooled]:
        """The volumes that are not yet acknowledged, in the order in which to send them."""
        if not self.folder.is_dir():
            return []
        matches = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir())
        return sorted(Spooled(int(match[1]), int(match[2]), path) for path, match in matches if match)
