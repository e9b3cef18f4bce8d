"""Acknowledged DICOM objects, on the disk until their run has ended.

Knows nothing of networks or volumes. Only what the allow-list of ``dicom_header`` let through is written: these files
name no person, no place, and no day beyond the clock of the volumes.

Each series has a file, to which its objects are appended. Written objects survive the process at once, and a power
failure from the next sync on. An object that arrives alone, like a whole volume, is synced before ``put`` returns. Of
many that arrive together, like slices, the first is synced at once and the others together after ``SYNC_S``: one sync
each would be slower than the scanner. A new process reads the files of an earlier one and begins its own; a last object
that a kill cut off was never acknowledged, and is left out.
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
from mindsight.scanner.formats.dicom_header import DicomRecord, Frame

MAX_BYTES = 32 << 30
SYNC_S = 0.05
_HEAD = struct.Struct("<4sIQQdI")  # magic, bytes of fields, bytes of pixels, number, time of arrival, checksum of both
_MAGIC = b"MSO1"
_FRAME = tuple(one.name for one in dataclasses.fields(Frame))
_FIELDS = tuple(one.name for one in dataclasses.fields(DicomRecord) if one.name not in ("frames", "pixels"))


@dataclass(frozen=True, slots=True)
class Kept:
    """An acknowledged object. number : in the transport's count, which continues over restarts."""

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
    """The next object of a file; None at its end, or if the rest is not an object."""
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
    """Acknowledged objects whose run has not ended. Threads may ``put`` while another thread reads and releases.

    last : the greatest number that an earlier process gave
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
        """Writes the object to the disk. Raises StorageFull."""
        with self._lock:
            if sum(file.n_bytes for file in self._own.values()) + len(kept.record.pixels) > self._max_bytes:
                raise StorageFull(f"expected at most {self._max_bytes} bytes of series that have not ended, got more")
            try:
                self._append(kept.record.series, kept)
            except OSError as error:
                raise StorageFull(f"the disk takes no more objects: {error.strerror}") from None

    def waiting(self) -> Iterator[Kept]:
        """The objects that an earlier process acknowledged, in order of arrival."""
        yield from heapq.merge(*(_read(path) for _, path, _ in self._before), key=lambda kept: kept.number)

    def release(self, is_over: Callable[[str], bool], up_to: int) -> None:
        """Deletes the series that are over, if all of their objects (up to this number) are processed."""
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
            # Overwrites what a failed write may have left: an object behind that would not be found.
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
