"""A folder that a scanner exports files to, while it does: each file is read once, when it is whole.

Knows nothing of threads or of what is done with what the files hold; time is passed in. File and folder names choose
what is read, and go nowhere.

A file is whole when it parses to its end, and neither changes between two looks nor is still open (where the system
tells: inotify's close-after-write and rename). That a file parses is not enough: a copy may first be made as long as it
will be and then filled. A PAR/REC pair is read when both of its files are whole.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mindsight.errors import MindsightError
from mindsight.scanner.transports.arrivals import Arrival
from mindsight.scanner.transports.contents import members, read_unit, unit_of
from mindsight.scanner.transports.contract import Patience, Trouble
from mindsight.scanner.transports.guard import each_guarded

RETRY_S = 0.05
MAX_RETRY_S = 1.0
MAX_DEPTH = 8
MAX_WAITS = 6

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")
_BESIDE = (".json", ".tsv", ".bval", ".bvec")  # of a NIfTI

Look = tuple[tuple[int, int], ...]
"""Size and time of the last change of each file of a unit."""


@dataclass(slots=True)
class _Waiting:
    """A unit that is not read yet. since_s : it has looked the same since. closed : files whose writer is done."""

    look: Look
    first_s: float
    since_s: float
    next_s: float
    retry_s: float = RETRY_S
    closed: set[str] = field(default_factory=set)


class FolderReader:
    """Which files of a folder are new and whole, and what they hold.

    settle_s : a file that does not change for so long is no longer being written
    existing : files that are there at the start are read as well
    since_ns : without ``existing``, those that changed after it are (nanoseconds since the Unix epoch)
    tr_s : of files that state none
    """

    def __init__(
        self,
        folder: Path,
        patience: Patience,
        *,
        settle_s: float,
        existing: bool,
        since_ns: int | None = None,
        tr_s: float | None = None,
    ) -> None:
        self._folder = folder
        self._patience = patience
        self._settle_s = settle_s
        self._tr_s = tr_s
        self._known: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, Look] = {}
        self._lost = False
        self._n_dealt_with = 0
        if not existing:
            files = self._files(folder, MAX_DEPTH)
            self._known.update(unit for unit, look in files if since_ns is None or _changed_ns(look) <= since_ns)

    def scan(self, now_s: float) -> Iterator[Trouble]:
        """Looks for new files, and for those given up that have changed."""
        found = list(self._files(self._folder, MAX_DEPTH))
        lost = not self._folder.is_dir()
        if lost and not self._lost:
            yield Trouble("watch.folder", "the watched folder cannot be read; waiting for it")
        self._lost = lost
        for unit, look in sorted(found, key=lambda one: (_changed_ns(one[1]), _natural(one[0]))):
            if unit not in self._known or self._given_up.get(unit, look) != look:
                self._wait_for(unit, look, now_s)

    def told(self, path: str, now_s: float, *, closed: bool) -> None:
        """The system says that something happened to this file."""
        unit = unit_of(path)
        look = _look(unit)
        if look is None or _is_passed_over(path):
            return
        if unit in self._waiting:
            self._waiting[unit].next_s = now_s
        elif unit not in self._known or self._given_up.get(unit, look) != look:
            self._wait_for(unit, look, now_s)
        else:
            return
        if closed:
            self._waiting[unit].closed.add(path)

    def read(self, now_s: float, wall_s: float) -> Iterator[Arrival | Trouble]:
        """What the files hold that are whole by now, and what is given up."""
        for unit, waiting in list(self._waiting.items()):
            if waiting.next_s > now_s:
                continue
            look = _look(unit)
            is_closed = waiting.closed.issuperset(members(unit))
            if look is None:  # renamed or removed
                del self._waiting[unit]
                self._known.discard(unit)
            elif look != waiting.look:
                waiting.look, waiting.since_s, waiting.retry_s = look, now_s, RETRY_S
                if not is_closed:
                    waiting.next_s = now_s + min(self._settle_s, RETRY_S)
                    continue
                yield from self._try(unit, waiting, now_s, wall_s)
            elif is_closed or now_s - waiting.since_s >= self._settle_s:
                yield from self._try(unit, waiting, now_s, wall_s)
            else:
                waiting.next_s = waiting.since_s + self._settle_s

    def due_s(self, now_s: float) -> float:
        """Seconds until a waiting file is to be looked at again; infinite where none is."""
        return min((max(0.0, waiting.next_s - now_s) for waiting in self._waiting.values()), default=float("inf"))

    def _wait_for(self, unit: str, look: Look, now_s: float) -> None:
        self._known.add(unit)
        self._given_up.pop(unit, None)
        self._waiting[unit] = _Waiting(look, now_s, now_s, now_s)

    def _try(self, unit: str, waiting: _Waiting, now_s: float, wall_s: float) -> Iterator[Arrival | Trouble]:
        contents = each_guarded(read_unit(unit, self._tr_s))
        try:
            first = next(contents)
        except MindsightError as error:
            is_foreign = error.code == "dicom.not_mr"  # will not become one
            for_s = 0.0 if is_foreign else self._patience.whole_s
            if now_s - waiting.since_s >= for_s or now_s - waiting.first_s >= MAX_WAITS * for_s:
                del self._waiting[unit]
                self._given_up[unit] = waiting.look
                self._n_dealt_with += 1
                text = f"a file was passed over (file {self._n_dealt_with} of those that came): {error}"
                is_noise = error.code == "dicom.not_dicom" and not _claims_to_be_one(unit)
                yield Trouble(error.code, text, lost=not (is_foreign or is_noise))
            else:
                waiting.next_s = now_s + waiting.retry_s
                waiting.retry_s = min(2 * waiting.retry_s, MAX_RETRY_S)
            return
        if _look(unit) != waiting.look:  # it was written to while it was read
            waiting.next_s = now_s
            return
        del self._waiting[unit]
        self._n_dealt_with += 1
        yield Arrival(first, wall_s, self._n_dealt_with)
        try:
            for content in contents:
                yield Arrival(content, wall_s, self._n_dealt_with)
        except MindsightError as error:
            text = f"file {self._n_dealt_with} was read in part: {error}"
            yield Trouble(error.code, text, lost=True)

    def _files(self, folder: Path | str, depth: int) -> Iterator[tuple[str, Look]]:
        """Each unit and its look; the look of one that is known is not asked for again unless it was given up."""
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
            look = _look(unit)
            if look is not None:
                yield unit, look
        for path in folders if depth else ():
            if not os.path.basename(path).startswith("."):
                yield from self._files(path, depth - 1)


def _look(unit: str) -> Look | None:
    """None where there is no file of the unit, or something that is no plain file."""
    try:
        found = [os.lstat(path) for path in members(unit)]
    except OSError:
        return None
    if not found or not all(stat.S_ISREG(one.st_mode) for one in found):
        return None
    return tuple((one.st_size, one.st_mtime_ns) for one in found)


def _changed_ns(look: Look) -> int:
    return max(changed_ns for _, changed_ns in look)


def _claims_to_be_one(unit: str) -> bool:
    """By its name it is a scanner's; notes and pictures that lie beside them are not missed."""
    return unit.lower().endswith((".dcm", ".ima"))


def _is_passed_over(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower().endswith((*_UNFINISHED, *_BESIDE))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", path) if part]
