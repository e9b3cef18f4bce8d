"""A folder that a scanner is exporting files to: each file is read once, when it is whole.

Knows nothing of threads or of what becomes of the content; time is an argument. File and folder names choose what is
read, and go nowhere else.

A file is whole if it parses to its end and has stopped changing: it is the same at two looks, or the system reports
that it was closed (inotify's close-after-write and rename). Parsing alone is not enough, since some copies get their
full length first and their content later; a file with less on the disk than its length says is given more time. A
PAR/REC pair is read once both of its files are whole.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mindsight.errors import MindsightError
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.file_contents import members, read_unit, unit_of
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.guard import each_guarded
from mindsight.scanner.transports.contract import Timeouts

RETRY_S = 0.05
MAX_RETRY_S = 1.0
HOLES_S = 1.0  # no longer, since a disk that compresses holds less of every file
MAX_DEPTH = 8
MAX_WAITS = 6

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")
_BESIDE = (".json", ".tsv", ".bval", ".bvec")  # beside a NIfTI file

FileState = tuple[tuple[int, int], ...]
"""Size and modification time of each file of a unit."""


@dataclass(slots=True)
class _Waiting:
    """A unit that is not read yet.

    since_s : time since which its state has not changed
    closed : files that their writer has closed
    """

    state: FileState
    first_s: float
    since_s: float
    next_s: float
    retry_s: float = RETRY_S
    closed: set[str] = field(default_factory=set)


class FolderReader:
    """Finds the files of a folder that are new and whole, and reads them.

    settle_s : a file that has not changed for this long is no longer being written
    existing : read files that are there at the start as well
    since_ns : without ``existing``, read those that changed after it (nanoseconds since the Unix epoch)
    tr_s : repetition time for files that state none
    """

    def __init__(
        self,
        folder: Path,
        timeouts: Timeouts,
        *,
        settle_s: float,
        existing: bool,
        since_ns: int | None = None,
        tr_s: float | None = None,
    ) -> None:
        self._folder = folder
        self._timeouts = timeouts
        self._settle_s = settle_s
        self._tr_s = tr_s
        self._known: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, FileState] = {}
        self._lost = False
        self._n_dealt_with = 0
        if not existing:
            files = self._files(folder, MAX_DEPTH)
            self._known.update(unit for unit, state in files if since_ns is None or _changed_ns(state) <= since_ns)

    def scan(self, now_s: float) -> Iterator[TransportWarning]:
        """Looks for new files, and for skipped files that have changed."""
        found = list(self._files(self._folder, MAX_DEPTH))
        lost = not self._folder.is_dir()
        if lost and not self._lost:
            text = "the watched folder cannot be read; waiting until it can: check its mount and permissions"
            yield TransportWarning("watch.folder", text)
        self._lost = lost
        for unit, state in sorted(found, key=lambda one: (_changed_ns(one[1]), _natural(one[0]))):
            if unit not in self._known or self._given_up.get(unit, state) != state:
                self._wait_for(unit, state, now_s)

    def notify(self, path: str, now_s: float, *, closed: bool) -> None:
        """Takes note of a file-system event for this file."""
        unit = unit_of(path)
        state = _state_of(unit)
        if state is None or _is_passed_over(path):
            return
        if unit in self._waiting:
            self._waiting[unit].next_s = now_s
        elif unit not in self._known or self._given_up.get(unit, state) != state:
            self._wait_for(unit, state, now_s)
        else:
            return
        if closed:
            self._waiting[unit].closed.add(path)

    def read(self, now_s: float, wall_s: float) -> Iterator[Arrival | TransportWarning]:
        """The content of files that are whole by now, and warnings about files that are skipped."""
        for unit, waiting in list(self._waiting.items()):
            if waiting.next_s > now_s:
                continue
            state = _state_of(unit)
            is_closed = waiting.closed.issuperset(members(unit))
            if state is None:  # renamed or removed
                del self._waiting[unit]
                self._known.discard(unit)
            elif state != waiting.state:
                waiting.state, waiting.since_s, waiting.retry_s = state, now_s, RETRY_S
                if not is_closed:
                    waiting.next_s = now_s + min(self._settle_s, RETRY_S)
                    continue
                yield from self._try(unit, waiting, now_s, wall_s)
            elif is_closed or now_s - waiting.since_s >= (still_s := self._still_s(unit)):
                yield from self._try(unit, waiting, now_s, wall_s)
            else:
                waiting.next_s = min(waiting.since_s + still_s, now_s + max(self._settle_s, RETRY_S))

    def due_s(self, now_s: float) -> float:
        """Seconds until a waiting file must be looked at again; infinite if none waits."""
        return min((max(0.0, waiting.next_s - now_s) for waiting in self._waiting.values()), default=float("inf"))

    def _still_s(self, unit: str) -> float:
        return max(self._settle_s, HOLES_S) if any(map(_has_holes, members(unit))) else self._settle_s

    def _wait_for(self, unit: str, state: FileState, now_s: float) -> None:
        self._known.add(unit)
        self._given_up.pop(unit, None)
        self._waiting[unit] = _Waiting(state, now_s, now_s, now_s)

    def _try(self, unit: str, waiting: _Waiting, now_s: float, wall_s: float) -> Iterator[Arrival | TransportWarning]:
        contents = each_guarded(read_unit(unit, self._tr_s))
        try:
            first = next(contents)
        except MindsightError as error:
            is_foreign = error.code == "dicom.not_mr"  # waiting will not make it an MR image
            for_s = 0.0 if is_foreign else self._timeouts.whole_s
            if now_s - waiting.since_s >= for_s or now_s - waiting.first_s >= MAX_WAITS * for_s:
                del self._waiting[unit]
                self._given_up[unit] = waiting.state
                self._n_dealt_with += 1
                text = f"skipped a file (file {self._n_dealt_with} in order of arrival): {error}"
                is_noise = error.code == "dicom.not_dicom" and not _claims_to_be_one(unit)
                yield TransportWarning(error.code, text, lost=not (is_foreign or is_noise))
            else:
                waiting.next_s = now_s + waiting.retry_s
                waiting.retry_s = min(2 * waiting.retry_s, MAX_RETRY_S)
            return
        if _state_of(unit) != waiting.state:  # it was written to while it was read
            waiting.next_s = now_s
            return
        del self._waiting[unit]
        self._n_dealt_with += 1
        yield Arrival(first, wall_s, self._n_dealt_with)
        try:
            for content in contents:
                yield Arrival(content, wall_s, self._n_dealt_with)
        except MindsightError as error:
            text = f"file {self._n_dealt_with} in order of arrival was read only in part: {error}"
            yield TransportWarning(error.code, text, lost=True)

    def _files(self, folder: Path | str, depth: int) -> Iterator[tuple[str, FileState]]:
        """Each new unit and its state; of known units only those that were skipped."""
        folders, units = [], set[str]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not _is_passed_over(entry.path):
                        units.add(unit_of(entry.path))
        except OSError:
            return
        for unit in units:
            if unit in self._known and unit not in self._given_up:
                continue
            state = _state_of(unit)
            if state is not None:
                yield unit, state
        for path in folders if depth else ():
            if not os.path.basename(path).startswith("."):
                yield from self._files(path, depth - 1)


def _state_of(unit: str) -> FileState | None:
    """State of a unit; None if it has no file, or a member that is not a plain file."""
    try:
        found = [os.lstat(path) for path in members(unit)]
    except OSError:
        return None
    if not found or not all(stat.S_ISREG(one.st_mode) for one in found):
        return None
    return tuple((one.st_size, one.st_mtime_ns) for one in found)


def _has_holes(path: str) -> bool:
    """Whether less is on the disk than the file is long: it may have been given its length before its content."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return 512 * getattr(found, "st_blocks", found.st_size) < found.st_size  # not stated on every system


def _changed_ns(state: FileState) -> int:
    return max(changed_ns for _, changed_ns in state)


def _claims_to_be_one(unit: str) -> bool:
    """Whether the name is that of a scanner's file; other files, like notes and pictures, cost no volume."""
    return unit.lower().endswith((".dcm", ".ima"))


def _is_passed_over(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower().endswith((*_UNFINISHED, *_BESIDE))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", path) if part]
