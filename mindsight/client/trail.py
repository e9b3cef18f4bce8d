"""What an interrupted stream leaves for the next process with the same command. Knows nothing of the network."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mindsight.files.digest import sha256_of
from mindsight.files.durable import write_durably
from mindsight.volume import Volume

WATCHING, RECEIVING, RECEIVED = "watching.json", "receiving.json", "received"


class Trail:
    """Which files a live stream ignores, and which run each series became.

    ``newest_ns`` is the modification time, by the folder's own clock, up to which files are ignored: they were there at
    the first start, or the process before had finished with them. A process that follows one that was killed reads all
    later files again; it recognises a run by a hash of its first volume, whose noise is unique.
    """

    def __init__(self, path: Path, command: str, newest_ns: int) -> None:
        self._path = path
        self._command = sha256_of(command.encode())
        self.newest_ns = newest_ns
        self.runs: dict[str, int] = {}
        self.is_followed = False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or no trail
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["command"] == self._command:
                self.newest_ns, self.runs, self.is_followed = saved["newest_ns"], saved["runs"], True

    @classmethod
    def of(cls, source: str, spool: Path, first_run: int) -> Trail | None:
        """The trail of a live source in a session's spool; None for a source whose volumes are sent only once."""
        if source.startswith("watch:"):
            return cls(spool / WATCHING, f"{first_run} {source}", newest_ns(source))
        if source.startswith("cstore:"):  # its objects lie on this disk, whatever the options were
            return cls(spool / RECEIVING, "cstore", 0)
        return None

    def save(self) -> None:
        """On the disk when this returns."""
        saved = {"command": self._command, "newest_ns": self.newest_ns, "runs": self.runs}
        write_durably(self._path, json.dumps(saved).encode())

    def save_run(self, first: Volume, run: int) -> None:
        self.runs[self._hash(first)] = run
        self.save()

    def run_of(self, first: Volume) -> int | None:
        """The run that an earlier process declared for the series that begins with this volume."""
        return self.runs.get(self._hash(first)) if self.is_followed else None

    @staticmethod
    def _hash(first: Volume) -> str:
        header = f"{first.index} {first.shape} {first.acquired_s} {first.affine.tolist()}"
        return sha256_of(header.encode() + first.data.tobytes(order="F"))


def newest_ns(source: str) -> int:
    """The latest modification time in a watched folder, by the folder's own clock; 0 without one."""
    newest = 0
    folder = source.partition("?")[0].removeprefix("watch:").removeprefix("//")
    for where, _, names in os.walk(folder) if source.startswith("watch:") else ():
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                newest = max(newest, os.lstat(os.path.join(where, name)).st_mtime_ns)
    return newest
