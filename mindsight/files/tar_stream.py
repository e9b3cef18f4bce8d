"""A folder as a tar file, made while it is sent: no copy on the disk, a piece in memory at a time.

Knows nothing of what the files are. The same folder gives the same bytes: names sorted, no owner, no time.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from mindsight.files.manifest import files_in

PIECE_BYTES = 1024 * 1024


def tar_of(folder: Path) -> Iterator[bytes]:
    """The folder and its files (PAX, so that names and sizes have no limit)."""
    for name in files_in(folder):
        path = folder / name
        header = tarfile.TarInfo(f"{folder.name}/{name}")
        header.size, header.mode = path.stat().st_size, 0o644
        yield header.tobuf(tarfile.PAX_FORMAT)
        left = header.size
        with path.open("rb") as file:
            while left and (piece := file.read(min(PIECE_BYTES, left))):
                left -= len(piece)
                yield piece
        if left:
            raise OSError(f"{name} became shorter while it was read")
        yield b"\0" * (-header.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
