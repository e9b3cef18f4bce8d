"""A watched folder as a transport: a thread that reads it on file-system events, or polls it.

Knows nothing of files (``folder.py``), series or volumes. The kernel reports no events for mounts that another machine
writes to, so these are polled.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from pathlib import Path
from typing import Literal

from typing_extensions import Unpack
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from mindsight.errors import BadRequest
from mindsight.scanner.transports.folder import FolderReader
from mindsight.scanner.transports.receiver import Receiver, ReceiverOptions

Mode = Literal["auto", "events", "polling"]

POLL_S = 0.1
RESCAN_S = 1.0
SCAN_REST = 10  # scanning a full folder is slow: it may take a tenth of the time at most

_OTHERS_WRITE = re.compile(r"^(nfs|nfs4|cifs|smb|smb3|smbfs|afs|ceph|9p|vboxsf|davfs|fuse\b.*|virtiofs)$")


def others_write(folder: Path, mounts: str) -> bool:
    """Whether the folder lies on a mount that another machine may write to: the kernel reports no events there.

    mounts : content of ``/proc/self/mounts``: device, mount point, type, ... per line
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


class FolderWatch(Receiver):
    """The transport: a folder and all below it, in a thread of its own.

    mode : ``events`` of the file system, ``polling``, or ``auto``, which polls mounts that another machine may write to
    existing : read files that are there at the start as well
    since_ns : read those that changed later than this in any case (nanoseconds since the Unix epoch)

    Raises BadRequest if there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode = "auto",
        existing: bool = False,
        since_ns: int | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> None:
        super().__init__(**options)
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
                    raise BadRequest("this mount reports no events; use mode=polling", code="watch.events") from None
                observer = None
        self._observer = observer
        self._reader = FolderReader(
            folder,
            self._timeouts,
            settle_s=POLL_S,
            existing=existing,
            since_ns=since_ns,
            tr_s=self._expected.tr_s,
        )
        watching = (self._watch, "watching the folder")
        self._thread = threading.Thread(target=self.work, args=watching, name="folder-watch", daemon=True)
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
                for warning in self._reader.scan(now_s):
                    self.put(warning)
                took_s = self._clock.monotonic_s() - now_s
                scan_s = now_s + max(rest_s, SCAN_REST * took_s)
            for arrival in self._reader.read(now_s, self._clock.wall_s()):
                self.put(arrival)
            self._wait_for_events(max(0.001, min(scan_s - now_s, self._reader.due_s(now_s), rest_s)))

    def _wait_for_events(self, wait_s: float) -> None:
        """Waits for an event of the file system, and passes on all that are there."""
        try:
            event = self._events.queue.get(timeout=wait_s)
            while event is not None:
                self._reader.notify(event[0], self._clock.monotonic_s(), closed=event[1])
                event = self._events.queue.get_nowait()
        except queue.Empty:
            return


def _is_shared(folder: Path) -> bool:
    try:
        return others_write(folder.resolve(), Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
    except OSError:  # not Linux
        return False
