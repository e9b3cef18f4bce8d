"""Files that are there whole or not at all, also after a power loss. The only place that renames and syncs.

A file is durable once its data, its name and, if it is the first in a new folder, that folder's name are synced: in
this order, so that a name never leads to a file without its data.

Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mindsight.errors import StorageFull

# no space, no quota, over the limit of a file's size, a failing disk
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# mounted for reading only, a folder of another user, a network disk or a device that is away
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENODEV, errno.ENXIO})
_MACHINE = _FULL | _CLOSED | {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EAGAIN}


def write_durably(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace the file; what it holds is on the disk when this returns. Missing folders are made.

    mode : of the file, less the process's umask

    Raises StorageFull if it cannot be made durable; the file is then what it was before.
    """
    with storage_errors():
        make_folder(path.parent)
        _replace(path, content, mode, sync=True)
        sync_path(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file, so that a reader finds the old content or the new one, never a part. Missing folders are made.

    Not durable: for what is worthless after a power loss (the address of a running process), or is a second copy.

    Raises StorageFull; the file is then what it was before.
    """
    with storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, 0o666, sync=False)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file whose data are synced; the new name is on the disk when this returns. Raises StorageFull."""
    with storage_errors():
        source.replace(target)
        sync_path(target.parent)


def publish_folder(partial: Path, folder: Path) -> None:
    """Rename a folder that was written beside its final name; it and all it holds are on the disk when this returns.

    Raises StorageFull, OSError if ``folder`` exists and is not empty.
    """
    with storage_errors():
        for parent, _, names in os.walk(partial, topdown=False):
            for name in names:
                sync_path(Path(parent, name))
            sync_path(Path(parent))
        partial.rename(folder)
        sync_path(folder.parent)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it if they are missing; their names are on the disk when this returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_path(folder.parent)


def sync_path(path: Path) -> None:
    """Make durable the data of a file, or the names in a folder: a rename survives a power loss only after this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: BinaryIO | Any) -> None:
    """Make durable what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def storage_errors(what: str = "a file", do: str = "free space, or raise the quota") -> Iterator[None]:
    """Turn the ways in which a disk can be full, fail or refuse to be written into StorageFull.

    what : could not be written; do : what the reader of the message should do about a full disk
    """
    try:
        yield
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "an error")
        if is_full(error):
            raise StorageFull(f"expected disk space for {what}, got {reason}: {do}") from error
        if error.errno in _CLOSED:
            text = f"expected a disk that can be written for {what}, got {reason}: check its mount and its permissions"
            raise StorageFull(text, code="storage.closed") from error
        raise


def is_full(error: OSError) -> bool:
    """Whether the disk is full or failing, or a quota or limit is reached."""
    return error.errno in _FULL


def is_of_the_machine(error: OSError) -> bool:
    """Whether the disk or the system failed, whatever was asked of it: the same may succeed later."""
    return error.errno in _MACHINE


def _replace(path: Path, content: bytes, mode: int, *, sync: bool) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if sync:
                sync_file(file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
