"""A folder as a tar file, made while it is sent: no copy on the disk, a piece in memory at a time.

Knows nothing of what the files are. The same folder gives the same bytes: names sorted, no owner, no time.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mindsight.files.manifest import files_in

PIECE_BYTES = 1024 * 1024


def tar_of(folder: Path, manifest: str | None = None) -> Iterator[bytes]:
    """The folder and its files (PAX, so that names and sizes have no limit).

    manifest : name of a last file, JSON: the size and sha256 of each file, as it was sent
    """
    sent: dict[str, dict[str, object]] = {}
    for name in files_in(folder):
        path = folder / name
        size, digest = path.stat().st_size, hashlib.sha256()
        yield _header(f"{folder.name}/{name}", size)
        left = size
        with path.open("rb") as file:
            while left and (piece := file.read(min(PIECE_BYTES, left))):
                left -= len(piece)
                digest.update(piece)
                yield piece
        if left:
            raise OSError(f"{name} became shorter while it was read")
        yield b"\0" * (-size % tarfile.BLOCKSIZE)
        sent[name] = {"bytes": size, "sha256": digest.hexdigest()}
    if manifest is not None:
        content = json.dumps({"files": sent}, indent=1).encode()
        yield _header(f"{folder.name}/{manifest}", len(content))
        yield content + b"\0" * (-len(content) % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header.tobuf(tarfile.PAX_FORMAT)
