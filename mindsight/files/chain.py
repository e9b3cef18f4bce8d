"""Lines of which none can be changed, removed or put in between unnoticed: each holds the hash of the one before it.

What the chain cannot show is that its last lines were cut off; for that, its length and last hash are noted elsewhere.
A line is one when its end is written: what a machine that stopped left of one is no part of the chain.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mindsight.errors import Diverged
from mindsight.files.digest import sha256_of_json
from mindsight.files.durable import make_folder, storage_errors, sync_file, sync_path

FIRST = "0" * 64
_TAIL_BYTES = 1 << 16  # longer than any line
_PIECE_BYTES = 1 << 20
MAX_RECORD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Link:
    """One line. ``number`` : from 1; ``digest`` : of the line, and so of all lines before it."""

    number: int
    record: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A file of linked lines (JSON), to which several processes may append."""

    path: Path

    def append(self, record: Mapping[str, Any]) -> Link:
        """The record is on the disk when this returns. Raises StorageFull; Diverged if the last line is damaged."""
        if len(json.dumps(record)) > MAX_RECORD_BYTES:
            raise ValueError(f"expected a record of at most {MAX_RECORD_BYTES} bytes")
        with storage_errors("the audit log"):
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().splitlines(keepends=True)
                if lines and not lines[-1].endswith(b"\n"):  # the machine stopped in the middle of a line
                    file.truncate(file.seek(0, os.SEEK_END) - len(lines.pop()))
                last = _parse(lines[-1]) if lines else None
                number, before = (1, FIRST) if last is None else (last.number + 1, last.digest)
                link = Link(number, dict(record), _digest(number, before, record))
                line = {"number": number, "before": before, "record": record, "digest": link.digest}
                file.write(json.dumps(line).encode() + b"\n")
                sync_file(file)
            if is_new:
                sync_path(self.path.parent)
        return link

    def verify(self) -> Iterator[Link]:
        """Every whole line, as long as each follows from the one before. Raises Diverged (``audit.broken``) where one
        does not.
        """
        number, before = 0, FIRST
        left, _ = self.ends()
        if not left:
            return
        with self.path.open("rb") as file:
            for line in _lines(file, left):
                link = _parse(line)
                number += 1
                if link.number != number or link.digest != _digest(number, before, link.record):
                    raise _broken(number)
                before = link.digest
                yield link

    def ends(self) -> tuple[int, int]:
        """Bytes of its whole lines, and of one behind them that was begun and not written to its end.

        Whoever appends is waited for: a line that was begun is of a machine that stopped, or in a copy made meanwhile.
        """
        if not self.path.exists():
            return 0, 0
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
            begun = len(tail) - (tail.rfind(b"\n") + 1)
        return size - begun, begun

    def last(self, n: int) -> list[Link]:
        """The last n whole lines, oldest first, unchecked. Raises Diverged where one cannot be read."""
        left, _ = self.ends()
        if not left:
            return []
        with self.path.open("rb") as file:
            found = deque(_lines(file, left), maxlen=n)
        return [_parse(line) for line in found]

    def copy(self, target: Path) -> None:
        """Its whole lines as they are now, into another file. What is appended meanwhile is not in it."""
        left, _ = self.ends()
        with self.path.open("rb") as file, target.open("wb") as copy:
            while left > 0 and (piece := file.read(min(_PIECE_BYTES, left))):
                left -= copy.write(piece)


def _lines(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    """The lines in the next bytes; fewer where the file was cut off meanwhile."""
    while n_bytes > 0 and (line := file.readline(n_bytes)):
        n_bytes -= len(line)
        yield line


def _digest(number: int, before: str, record: Mapping[str, Any]) -> str:
    return sha256_of_json([number, before, dict(record)])


def _parse(line: bytes) -> Link:
    try:
        held = json.loads(line)
        return Link(int(held["number"]), dict(held["record"]), str(held["digest"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _broken(None) from None


def _broken(number: int | None) -> Diverged:
    where = "a line" if number is None else f"line {number}"
    return Diverged(
        f"expected the audit log as it was written, {where} was changed, removed or put in: compare it with a backup",
        code="audit.broken",
    )
