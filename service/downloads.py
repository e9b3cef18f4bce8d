"""Folders that are sent as one tar file: a session's archive, a version of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.responses import StreamingResponse

from mindsight.files.manifest import files_in
from mindsight.files.tar_stream import tar_of

TAR = "application/x-tar"
N_BYTES = "X-Folder-Bytes"  # of its files, for who shows how much is left: the tar's own length is not known before
TAR_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {TAR: {"schema": {"type": "string", "format": "binary"}}}}
}


def as_tar(folder: Path, manifest: str | None = None, headers: Mapping[str, str] | None = None) -> StreamingResponse:
    """The folder as a file to save under its own name. manifest : see ``tar_of``"""
    n_bytes = sum((folder / name).stat().st_size for name in files_in(folder))
    about = {N_BYTES: str(n_bytes)}
    named = {"Content-Disposition": f'attachment; filename="{folder.name}.tar"', **about, **(headers or {})}
    return StreamingResponse(tar_of(folder, manifest), media_type=TAR, headers=named)
