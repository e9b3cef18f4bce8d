"""Volumes on the console's own disk, from before they are sent until they are acknowledged.

Knows nothing of the network. One file per volume: ``<session>/<run>-<index>.vol``.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mindsight.errors import StorageFull

_NAME = re.compile(r"(\d{4})-(\d{7})\.vol")


@dataclass(frozen=True, slots=True)
class Spooled:
    """One volume that waits."""

    run: int
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class Spool:
    """What one session's console has not had acknowledged."""

    folder: Path

    def put(self, run: int, index: int, payload: bytes) -> Spooled:
        """Make it durable. Raises StorageFull."""
        spooled = Spooled(run, index, self.folder / f"{run:04d}-{index:07d}.vol")
        temporary = spooled.path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(spooled.path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull("the console's disk is full: free space, nothing was lost") from error
            raise
        return spooled

    def waiting(self) -> list[Spooled]:
        """What waits, in order."""
        names = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("*.vol")]
        return sorted(
            (Spooled(int(match[1]), int(match[2]), path) for match, path in names if match is not None),
            key=lambda spooled: (spooled.run, spooled.index),
        )

    def drop(self, spooled: Spooled) -> None:
        """It was acknowledged."""
        spooled.path.unlink(missing_ok=True)
