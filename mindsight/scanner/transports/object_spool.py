"""DICOM objects that a sender was told are safe, on the disk until their run has ended.

Knows nothing of networks or volumes. Only what the allow-list of ``deidentify`` let through is written: no element of
the object that names a person, a place or a day beyond the clock of the volumes is in these files.

A file per series, to which objects are appended. What was written outlives the process at once, and a failure of the
machine's power from the next sync on: an object that comes alone, as a whole volume does, is synced before ``put``
returns; of many that come at once, as slices do, the first, and those behind it together (``SYNC_S``), for a sync of
each were slower than the scanner. A process that finds files of one before reads them and begins files of its own; a
last object that was cut off by a kill was never acknowledged, and is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mindsight.errors import StorageFull
from mindsight.files.durable import sync_path
from mindsight.scanner.deidentify import DicomRecord, Frame

MAX_BYTES = 32 << 30
SYNC_S = 0.05
_HEAD = struct.Struct("<4sIQQdI")  # magic, bytes of fields, bytes of pixels, number, when it came, checksum of both
_MAGIC = b"MSO1"
_FRAME = tuple(one.name for one in dataclasses.fields(Frame))
_FIELDS = tuple(one.name for one in dataclasses.fields(DicomRecord) if one.name not in ("frames", "pixels"))


@dataclass(frozen=True, slots=True)
class Kept:
    """An object as it was acknowledged. number : as the transport counts, over restarts."""

    record: DicomRecord
    arrived_s: float
    number: int


@dataclass(slots=True)
class _File:
    path: Path
    n_bytes: int
    last: int


def encode(kept: Kept) -> bytes:
    record = kept.record
    fields = {name: getattr(record, name) for name in _FIELDS}
    fields["frames"] = [[getattr(frame, name) for name in _FRAME] for frame in record.frames]
    text = json.dumps(fields).encode()
    check = zlib.crc32(record.pixels, zlib.crc32(text))
    return _HEAD.pack(_MAGIC, len(text), len(record.pixels), kept.number, kept.arrived_s, check) + text + record.pixels


def decode(file: BinaryIO) -> Kept | None:
    """The next object of a file; None at its end, and where the rest is none."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, n_text, n_pixels, number, arrived_s, check = _HEAD.unpack(head)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if magic != _MAGIC or n_text + n_pixels > left:
        return None
    text, pixels = file.read(n_text), file.read(n_pixels)
    if zlib.crc32(pixels, zlib.crc32(text)) != check:
        return None
    fields = {name: _as_tuples(value) for name, value in json.loads(text).items()}
    frames = tuple(Frame(**dict(zip(_FRAME, frame, strict=True))) for frame in fields.pop("frames"))
    return Kept(DicomRecord(**fields, frames=frames, pixels=pixels), arrived_s, number)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(one) for one in value) if isinstance(value, list) else value


class ObjectSpool:
    """What was acknowledged and is not dealt with yet. Threads may ``put`` while another one reads and releases.

    last : greatest number that a process before gave
    """

    def __init__(self, folder: Path, monotonic_s: Callable[[], float], *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._monotonic_s = monotonic_s
        self._synced_s = -SYNC_S
        self._unsynced: set[Path] = set()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._own: dict[str, _File] = {}
        self._before: list[tuple[str, Path, int]] = []  # series, file, last number of it
        self.last = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(folder.glob("*.objects")):
            series, last = "", 0
            for kept in _read(path):
                series, last = kept.record.series, kept.number
            self._before.append((series, path, last))
            self.last = max(self.last, last)

    def put(self, kept: Kept) -> None:
        """The object is on the disk when this returns. Raises StorageFull."""
        with self._lock:
            if sum(file.n_bytes for file in self._own.values()) + len(kept.record.pixels) > self._max_bytes:
                raise StorageFull(f"expected at most {self._max_bytes} bytes of series that have not ended")
            try:
                self._append(kept.record.series, kept)
            except OSError as error:
                raise StorageFull(f"the disk takes no more objects: {error.strerror}") from None

    def waiting(self) -> Iterator[Kept]:
        """What a process before had acknowledged, in the order in which it came."""
        yield from heapq.merge(*(_read(path) for _, path, _ in self._before), key=lambda kept: kept.number)

    def release(self, is_over: Callable[[str], bool], up_to: int) -> None:
        """Forgets series that nothing more is wanted of, as far as all their objects were dealt with."""
        with self._lock:
            for series, file in list(self._own.items()):
                if file.last <= up_to and is_over(series):
                    del self._own[series]
                    file.path.unlink(missing_ok=True)
            over = [one for one in self._before if one[2] <= up_to and (not one[0] or is_over(one[0]))]
            self._before = [one for one in self._before if one not in over]
            for _, path, _ in over:
                path.unlink(missing_ok=True)

    def _append(self, series: str, kept: Kept) -> None:
        file = self._own.get(series)
        is_new = file is None
        if file is None:
            file = _File(self._folder / f"{kept.number:09d}.objects", 0, kept.number)
        content = encode(kept)
        descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # Over what a write that failed may have left: never behind it, where it would not be found.
            os.lseek(descriptor, file.n_bytes, os.SEEK_SET)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if self._monotonic_s() - self._synced_s >= SYNC_S:
                sync_path(file.path)
                self._synced_s = self._monotonic_s()
            else:
                self._sync_later(file.path)
        finally:
            os.close(descriptor)
        if is_new:
            sync_path(self._folder)
            self._own[series] = file
        file.n_bytes += len(content)
        file.last = max(file.last, kept.number)

    def _sync_later(self, path: Path) -> None:
        if not self._unsynced:
            threading.Timer(SYNC_S, self._sync_behind).start()
        self._unsynced.add(path)

    def _sync_behind(self) -> None:
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
            self._synced_s = self._monotonic_s()
        for path in paths:
            with contextlib.suppress(OSError):  # released meanwhile
                sync_path(path)


def _read(path: Path) -> Iterator[Kept]:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError), path.open("rb") as file:
        while (kept := decode(file)) is not None:
            yield kept
