"""A copy of the data folder that one can go back to, made while the service runs, and the way back.

Every reference is written after what it refers to: a log after its payloads, a list of sessions after its subjects. So
the workers' snapshots are copied first, then the bus, then all else, and nothing in the copy refers to what is not
there. A snapshot older than its log is what a killed worker leaves, too.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsight import __version__
from mindsight.errors import BadRequest, Conflict, Diverged, NotFound, ServiceUnavailable
from mindsight.files.chain import Chain
from mindsight.files.digest import sha256_of_file
from mindsight.files.durable import publish_folder, storage_errors, sync_path, write_durably
from mindsight.settings import Settings

MANIFEST = "backup.json"
LAYOUT = 1  # of the manifest and of the data folder
_BUS = Path("bus", "appendonlydir")
_AUDIT = Path("audit", "audit.jsonl")
_LEFT_OUT = re.compile(
    r"bus/.*|logs/.*|service\.lock|gateway\.json|.*\.tmp|(blobs|shown)/incoming/.*|.*\.partial(/.*)?|backup\.json"
)
_PAYLOAD = re.compile(r"(blobs|shown)/[0-9a-f]{2}/([0-9a-f]{64})")
_TRIES = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Copied:
    """What a backup or a restoration holds.

    n_new : files that were copied, the others were there
    damaged : payloads of the data folder that are not what their names say, and of which no good copy was there
    blobs_url : the bucket that the payloads are in instead, at the time of the backup; empty without one
    """

    n_files: int
    n_bytes: int
    n_new: int
    damaged: tuple[str, ...] = ()
    blobs_url: str = ""


def back_up(settings: Settings, folder: Path, report: Progress = lambda done, of: None) -> Copied:
    """Copy the data folder; a second time into the same folder copies what is new, and removes what was erased.

    What is there is read again: a payload is kept if it is what its name says, also where the data folder's is not.

    A bus of the site's own (``MINDSIGHT_REDIS_URL``) is not in it: back that server up first, then call this. Nor is a
    bucket of payloads (``MINDSIGHT_BLOBS_URL``): copy it last, so that it has all that is referred to.

    report : gets the number of files that are done, and of all

    Raises NotFound (no data folder), BadRequest (``backup.folder``: a folder within it, or one that holds other
    things), ServiceUnavailable (``backup.bus``: the bus is writing its file anew; try again), StorageFull.
    """
    source, folder = settings.data_dir.absolute(), folder.absolute()
    if not source.is_dir():
        raise NotFound(f"expected a data folder, got {source}, which does not exist", code="backup.none")
    if folder == source or source in folder.parents or folder in source.parents:
        raise BadRequest(f"expected a folder apart from the data folder {source}, got {folder}", code="backup.folder")
    if (
        folder.exists()
        and any(folder.iterdir())
        and not (folder / MANIFEST).exists()
        and not _unfinished(folder).exists()
    ):
        raise BadRequest(
            f"expected an empty folder or an earlier backup, got {folder} with other files", code="backup.folder"
        )
    with storage_errors("the backup"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _unfinished(folder).touch()
        (folder / MANIFEST).unlink(missing_ok=True)
        held: dict[str, dict[str, Any]] = {}
        n_new = _copy(source, folder, [p for p in _files(source) if p.parts[0] == "snapshots"], held, lambda *_: None)
        n_new += _copy_bus(source, folder, held)
        rest = [path for path in _files(source) if path.parts[0] != "snapshots"]
        n_new += _copy(source, folder, rest, held, report)
        _remove_others(folder, held)
        document = {"layout": LAYOUT, "mindsight": __version__, "t": time.time(), "files": held}
        document["blobs_url"] = settings.blobs_url
        write_durably(folder / MANIFEST, json.dumps(document, indent=1).encode(), mode=0o600)
        _unfinished(folder).unlink()
    n_bytes = sum(of["bytes"] for of in held.values())
    return Copied(len(held), n_bytes, n_new, tuple(_damaged_in(held)), settings.blobs_url)


def restore(settings: Settings, folder: Path, report: Progress = lambda done, of: None) -> Copied:
    """Make the data folder from a backup; each file is checked against its digest. The service starts with it.

    Raises NotFound (``backup.none``), Conflict (``backup.occupied``: the data folder holds something), Diverged
    (``backup.damaged``), BadRequest (``backup.layout``: of a newer version), StorageFull.
    """
    target = settings.data_dir.absolute()
    held, blobs_url = _manifest(folder)
    if target.exists() and any(target.iterdir()):
        text = (
            f"expected an empty data folder, got {target} with files: move it away, or set another MINDSIGHT_DATA_DIR"
        )
        raise Conflict(text, code="backup.occupied")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with storage_errors("the data folder"):
        partial.mkdir(mode=0o700, parents=True)
        for done, (name, of) in enumerate(held.items(), 1):
            copy = partial / name
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                shutil.copyfile(folder / name, copy)
            except FileNotFoundError:
                raise _damaged(name) from None
            copy.chmod(of["mode"])
            if sha256_of_file(copy) != of["sha256"]:
                raise _damaged(name)
            report(done, len(held))
        if target.exists():
            target.rmdir()
        publish_folder(partial, target)
    return Copied(len(held), sum(of["bytes"] for of in held.values()), len(held), blobs_url=blobs_url)


def _files(source: Path) -> Iterator[Path]:
    """Those that a backup holds, relative to the data folder."""
    for parent, _, names in os.walk(source):
        for name in names:
            path = Path(parent, name).relative_to(source)
            if not _LEFT_OUT.fullmatch(path.as_posix()):
                yield path


def _copy(source: Path, folder: Path, paths: list[Path], held: dict[str, Any], report: Progress) -> int:
    n_new = 0
    for done, path in enumerate(paths, 1):
        with suppress(FileNotFoundError):  # replaced or removed meanwhile: not needed
            n_new += _copy_file(source, folder, path, held)
        report(done, len(paths))
    return n_new


def _copy_file(source: Path, folder: Path, path: Path, held: dict[str, Any]) -> bool:
    """Whether it was copied: a payload is named by its digest, and a copy that has it is kept."""
    copy = folder / path
    status = (source / path).stat()
    named = _PAYLOAD.fullmatch(path.as_posix())
    is_there = named is not None and copy.exists() and sha256_of_file(copy) == named[2]
    if not is_there:
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path == _AUDIT:
            Chain(source / path).copy(copy)  # it is appended to meanwhile
        else:
            shutil.copyfile(source / path, copy)
        sync_path(copy)
    digest = named[2] if is_there and named is not None else sha256_of_file(copy)
    held[path.as_posix()] = {"bytes": copy.stat().st_size, "mode": status.st_mode & 0o777, "sha256": digest}
    return not is_there


def _damaged_in(held: dict[str, Any]) -> Iterator[str]:
    for name, of in held.items():
        named = _PAYLOAD.fullmatch(name)
        if named is not None and of["sha256"] != named[2]:
            yield name


def _copy_bus(source: Path, folder: Path, held: dict[str, Any]) -> int:
    """The append-only file in its parts, as the server's own list names them: it must stay the same meanwhile."""
    if not (source / _BUS).is_dir():
        return 0
    for _ in range(_TRIES):
        shutil.rmtree(folder / _BUS, ignore_errors=True)
        before = _bus_list(source)
        found: dict[str, Any] = {}
        with suppress(FileNotFoundError):  # replaced or removed meanwhile: not needed
            for name in sorted(path.name for path in (source / _BUS).iterdir()):
                _copy_file(source, folder, _BUS / name, found)
            if _bus_list(source) == before:
                held |= found
                return len(found)
        time.sleep(1.0)
    raise ServiceUnavailable("the bus is writing its file anew: run the backup again in a minute", code="backup.bus")


def _bus_list(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (source / _BUS).glob("*.manifest")}


def _remove_others(folder: Path, held: dict[str, Any]) -> None:
    """What is no longer in the data folder is not kept: an erased subject leaves its backups, too."""
    keep = {folder / name for name in held} | {_unfinished(folder)}
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if Path(parent, name) not in keep:
                Path(parent, name).unlink()
        for name in folders:
            if not any(Path(parent, name).iterdir()):
                Path(parent, name).rmdir()


def _manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The files, and the bucket that the payloads were in."""
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        layout, held, blobs_url = document["layout"], document["files"], str(document.get("blobs_url", ""))
        names = [Path(name) for name in held]
    except (OSError, ValueError, KeyError, TypeError):
        text = f"expected a finished backup in {folder}, found no readable {MANIFEST}: choose another folder"
        raise NotFound(text, code="backup.none") from None
    if layout != LAYOUT:
        text = (
            f"expected a backup of layout {LAYOUT}, got {layout}: restore it with Mindsight {document.get('mindsight')}"
        )
        raise BadRequest(text, code="backup.layout")
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise _damaged(MANIFEST)
    return dict(held), blobs_url


def _damaged(name: str) -> Diverged:
    return Diverged(f"{name} of the backup is missing or was changed: take an earlier backup", code="backup.damaged")


def _unfinished(folder: Path) -> Path:
    return folder / "backup.unfinished"
