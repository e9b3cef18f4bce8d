"""A folder that a scanner exports DICOM files to, while it does: each file is read once, when it is whole.

Knows nothing of series or volumes. File and folder names choose what is read, and go nowhere.

A file is whole when it parses with all its pixel data, and neither changes between two looks nor is still open (where
the system tells: inotify's close-after-write and rename). That a file parses is not enough: a copy may first be made
as long as it will be and then filled. Mounts on which another machine writes tell nothing, and are looked at again
and again.
"""

from __future__ import annotations

import os
import queue
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from mindsight.errors import BadRequest, BadVolume
from mindsight.scanner.deidentify import read_dicom
from mindsight.scanner.series import read_bytes
from mindsight.scanner.transports.assemble import Arrival, DicomAssembler
from mindsight.scanner.transports.contract import Clock, Expected, Patience, Trouble
from mindsight.scanner.transports.receiver import Receiver

Mode = Literal["auto", "events", "polling"]

POLL_S = 0.1
RESCAN_S = 1.0
RETRY_S = 0.05
MAX_RETRY_S = 1.0
SCAN_REST = 10  # a full folder takes long to look through: a tenth of the time at most
MAX_DEPTH = 8
MAX_WAITS = 6

_OTHERS_WRITE = re.compile(r"^(nfs|nfs4|cifs|smb|smb3|smbfs|afs|ceph|9p|vboxsf|davfs|fuse\b.*|virtiofs)$")
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")


@dataclass(slots=True)
class _Waiting:
    """A file that has not been read yet. since_s : it has looked the same since. closed : the writer is done."""

    look: tuple[int, int]
    first_s: float
    since_s: float
    next_s: float
    retry_s: float = RETRY_S
    closed: bool = False


class FolderReader:
    """Which files of a folder are new and whole. No threads; time is passed in."""

    def __init__(self, folder: Path, patience: Patience, *, settle_s: float, existing: bool) -> None:
        self._folder = folder
        self._patience = patience
        self._settle_s = settle_s
        self._known: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, tuple[int, int]] = {}
        self._lost = False
        if not existing:
            self._known.update(path for path, _ in self._files(folder, MAX_DEPTH))

    def scan(self, now_s: float) -> Iterator[Trouble]:
        """Looks for new files, and for those given up that have changed."""
        found = list(self._files(self._folder, MAX_DEPTH))
        lost = not self._folder.is_dir()
        if lost and not self._lost:
            yield Trouble("watch.folder", "the watched folder cannot be read; waiting for it")
        self._lost = lost
        for path, look in sorted(found, key=lambda one: (one[1][1], _natural(one[0]))):
            if path not in self._known or self._given_up.get(path, look) != look:
                self._wait_for(path, look, now_s)

    def told(self, path: str, now_s: float, *, closed: bool) -> None:
        """The system says that something happened to this file."""
        look = _look(path)
        if look is None or _is_passed_over(path):
            return
        if path in self._waiting:
            self._waiting[path].closed |= closed
            self._waiting[path].next_s = now_s
        elif path not in self._known or self._given_up.get(path, look) != look:
            self._wait_for(path, look, now_s)
            self._waiting[path].closed = closed

    def read(self, now_s: float, wall_s: float) -> Iterator[Arrival | Trouble]:
        """The files that are whole by now, and what is given up."""
        for path, waiting in list(self._waiting.items()):
            if waiting.next_s > now_s:
                continue
            look = _look(path)
            if look is None:  # renamed or removed
                del self._waiting[path]
                self._known.discard(path)
            elif look != waiting.look:
                waiting.look, waiting.since_s, waiting.retry_s = look, now_s, RETRY_S
                if not waiting.closed:
                    waiting.next_s = now_s + min(self._settle_s, RETRY_S)
                    continue
                yield from self._try(path, waiting, now_s, wall_s)
            elif waiting.closed or now_s - waiting.since_s >= self._settle_s:
                yield from self._try(path, waiting, now_s, wall_s)
            else:
                waiting.next_s = waiting.since_s + self._settle_s

    def due_s(self, now_s: float) -> float:
        """Seconds until a waiting file is to be looked at again; infinite where none is."""
        return min((max(0.0, waiting.next_s - now_s) for waiting in self._waiting.values()), default=float("inf"))

    def _wait_for(self, path: str, look: tuple[int, int], now_s: float) -> None:
        self._known.add(path)
        self._given_up.pop(path, None)
        self._waiting[path] = _Waiting(look, now_s, now_s, now_s)

    def _try(self, path: str, waiting: _Waiting, now_s: float, wall_s: float) -> Iterator[Arrival | Trouble]:
        try:
            data = read_bytes(Path(path))
            if len(data) != waiting.look[0]:
                raise BadVolume("the file changed while it was read", code="dicom.truncated")
            arrival = Arrival(read_dicom(data), wall_s)
        except BadVolume as error:
            for_s = self._patience.whole_s
            if now_s - waiting.since_s >= for_s or now_s - waiting.first_s >= MAX_WAITS * for_s:
                del self._waiting[path]
                self._given_up[path] = waiting.look
                yield Trouble(error.code, f"a file was passed over: {error}")
            else:
                waiting.next_s = now_s + waiting.retry_s
                waiting.retry_s = min(2 * waiting.retry_s, MAX_RETRY_S)
            return
        if _look(path) != waiting.look:
            waiting.next_s = now_s
            return
        del self._waiting[path]
        yield arrival

    def _files(self, folder: Path | str, depth: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """Path and look of each file; the look of one that is known is not asked for again unless it was given up."""
        folders = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.path in self._known and entry.path not in self._given_up:
                        continue
                    elif entry.is_file(follow_symlinks=False) and not _is_passed_over(entry.path):
                        found = entry.stat(follow_symlinks=False)
                        yield entry.path, (found.st_size, found.st_mtime_ns)
        except OSError:
            return
        for path in folders if depth else ():
            if not os.path.basename(path).startswith("."):
                yield from self._files(path, depth - 1)


def _look(path: str) -> tuple[int, int] | None:
    """Size and time of the last change; None where there is no such plain file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _is_passed_over(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", path) if part]


def others_write(folder: Path, mounts: str) -> bool:
    """The folder lies on a mount that another machine may write to, of which this one's kernel tells nothing.

    mounts : what ``/proc/self/mounts`` holds: device, mount point, type, ... per line
    """
    kind, longest = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]) if len(fields) > 2 else ""
        if point and len(point) >= longest and (folder == Path(point) or Path(point) in folder.parents):
            kind, longest = fields[2], len(point)
    return _OTHERS_WRITE.match(kind) is not None


class _Events(FileSystemEventHandler):
    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[str, bool] | None] = queue.SimpleQueue()

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.is_directory or event.event_type not in ("created", "modified", "closed", "moved"):
            return
        path = event.dest_path if event.event_type == "moved" else event.src_path
        self.queue.put((os.fsdecode(path), event.event_type in ("closed", "moved")))


class FolderWatch(Receiver[Arrival]):
    """The transport: a folder and all below it, in a thread of its own.

    mode : ``events`` as the system tells them, ``polling``, or ``auto``, which polls where another machine may write
    existing : files that are there at the start are read as well

    Raises BadRequest where there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        expected: Expected | None = None,
        patience: Patience | None = None,
        run: int = 1,
        mode: Mode = "auto",
        existing: bool = False,
    ) -> None:
        patience = patience or Patience()
        assembler = DicomAssembler(expected or Expected(), patience.late_s, run)
        super().__init__(assembler, patience, clock, lambda arrival: arrival.n_bytes)
        if not folder.is_dir():
            raise BadRequest("expected a folder to watch, got none; check the path", code="watch.folder")
        self._events = _Events()
        observer = None if mode == "polling" or (mode == "auto" and _is_shared(folder)) else Observer()
        if observer is not None:
            try:
                observer.schedule(self._events, str(folder), recursive=True)
                observer.start()
            except OSError:  # no inotify watches left
                if mode == "events":
                    raise BadRequest("this mount tells no events; poll it", code="watch.events") from None
                observer = None
        self._observer = observer
        self._reader = FolderReader(folder, patience, settle_s=POLL_S, existing=existing)
        self._thread = threading.Thread(target=self._watch, name="folder-watch", daemon=True)
        self._thread.start()

    @property
    def polls(self) -> bool:
        return self._observer is None

    def close(self) -> None:
        super().close()
        self._events.queue.put(None)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5.0)
        self._thread.join(5.0)

    def _watch(self) -> None:
        rest_s = POLL_S if self.polls else RESCAN_S
        scan_s = self._clock.monotonic_s()
        while not self._closed.is_set():
            now_s = self._clock.monotonic_s()
            if now_s >= scan_s:
                for trouble in self._reader.scan(now_s):
                    self.put(trouble)
                took_s = self._clock.monotonic_s() - now_s
                scan_s = now_s + max(rest_s, SCAN_REST * took_s)
            for arrival in self._reader.read(now_s, self._clock.wall_s()):
                self.put(arrival)
            self._hear(max(0.001, min(scan_s - now_s, self._reader.due_s(now_s), rest_s)))

    def _hear(self, wait_s: float) -> None:
        """Waits for the system to tell something, and notes all it has told."""
        try:
            told = self._events.queue.get(timeout=wait_s)
            while told is not None:
                self._reader.told(told[0], self._clock.monotonic_s(), closed=told[1])
                told = self._events.queue.get_nowait()
        except queue.Empty:
            return


def _is_shared(folder: Path) -> bool:
    try:
        return others_write(folder.resolve(), Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
    except OSError:  # not Linux
        return False
