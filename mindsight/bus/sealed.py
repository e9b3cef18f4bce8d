"""Logs to which nothing is added any more, on the disk in place of the bus: a line for each entry, compressed.

Knows nothing of what the payloads mean.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mindsight.errors import BadRequest
from mindsight.files.durable import write_durably

MAX_BYTES = 2**30  # of a log, as it is written out
_KEPT = 8  # logs in memory
_RAW = "surrogateescape"  # bytes that are no text stay what they are


class SealedEntry(NamedTuple):
    """One entry. identity : what makes another one with its key the same"""

    key: str
    identity: str
    payload: bytes


@dataclass(frozen=True)
class SealedLog:
    """entries : with the numbers 1, 2, 3, ..."""

    entries: Sequence[SealedEntry]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of the entries, by their keys."""
        return {entry.key: number for number, entry in enumerate(self.entries, 1)}


class SealedLogs:
    """The sealed logs of one data folder; those that were read last are kept in memory. May be shared by threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: OrderedDict[Path, tuple[tuple[int, int], SealedLog]] = OrderedDict()

    def get(self, session: str, name: str) -> SealedLog | None:
        """None if the log is not sealed. Raises BadRequest (``log.damaged``) if the file cannot be read."""
        path = self._path(session, name)
        with self._lock:
            try:
                status = path.stat()
                version = status.st_mtime_ns, status.st_size
                if path not in self._read or self._read[path][0] != version:
                    self._read[path] = version, _parse(path.read_bytes(), path)
            except FileNotFoundError:
                return None
            self._read.move_to_end(path)
            while len(self._read) > _KEPT:
                self._read.popitem(last=False)
            return self._read[path][1]

    def write(self, session: str, name: str, log: SealedLog) -> None:
        """On the disk when this returns. Raises StorageFull."""
        lines = (
            json.dumps([key, identity, payload.decode(errors=_RAW)]) + "\n" for key, identity, payload in log.entries
        )
        write_durably(self._path(session, name), zlib.compress("".join(lines).encode()), mode=0o600)

    def forget(self, session: str) -> None:
        """Remove the sealed logs under this name."""
        with self._lock:
            for path in self._folder.glob(f"{session}.*.jsonl.z"):
                self._read.pop(path, None)
                path.unlink(missing_ok=True)

    def _path(self, session: str, name: str) -> Path:
        return self._folder / f"{session}.{name}.jsonl.z"


def _parse(content: bytes, path: Path) -> SealedLog:
    try:
        return SealedLog(tuple(_entries(content)))
    except (zlib.error, ValueError, TypeError, AttributeError) as error:
        text = f"expected a sealed log in {path.name}, got a damaged file: restore it from a backup"
        raise BadRequest(text, code="log.damaged") from error


def _entries(content: bytes) -> Iterator[SealedEntry]:
    reader = zlib.decompressobj()
    text = reader.decompress(content, MAX_BYTES)
    if not reader.eof or reader.unused_data:
        raise ValueError("it does not end where it should")
    for line in text.splitlines():
        key, identity, payload = json.loads(line)
        yield SealedEntry(key, identity, payload.encode(errors=_RAW))
