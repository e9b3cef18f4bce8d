"""Content-addressed files: a payload's name is its sha256, which is handed out once the payload is on the disk.

Knows nothing of what the payloads are.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from mindsight.blobs.protocol import SIDE_BY_SIDE, Stored, checked, unknown
from mindsight.errors import Diverged
from mindsight.files.digest import sha256_of
from mindsight.files.durable import make_folder, rename_durably, storage_errors, sync_file


class BlobStore:
    """``Blobs`` in a folder, ``<root>/<first two digits>/<sha256>``.

    Raises StorageFull if a payload cannot be made durable: no space, no quota, a failing disk.
    """

    is_near = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def put(self, payload: bytes) -> str:
        with self.writer() as writer:
            writer.write(payload)
            return writer.commit()

    def put_many(self, payloads: Sequence[bytes]) -> list[str]:
        if len(payloads) <= 1:
            return [self.put(payload) for payload in payloads]
        with ThreadPoolExecutor(min(len(payloads), SIDE_BY_SIDE)) as threads:
            return list(threads.map(self.put, payloads))

    def writer(self) -> FileWriter:
        return FileWriter(self.root, self._incoming)

    def get(self, digest: str) -> bytes:
        try:
            payload = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise unknown() from None
        if sha256_of(payload) != digest:
            raise Diverged("a stored payload does not match its digest: send it again", code="blob.corrupt")
        return payload

    def beginning(self, digest: str, n_bytes: int) -> bytes:
        try:
            with self.path(digest).open("rb") as file:
                return file.read(n_bytes)
        except FileNotFoundError:
            raise unknown() from None

    def size(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise unknown() from None

    def path(self, digest: str) -> Path:
        """The payload's file, which need not exist. Raises NotFound if ``digest`` is no sha256."""
        return self.root / checked(digest)[:2] / digest

    def exists(self, digest: str) -> bool:
        return self.path(digest).exists()

    def listed(self) -> Iterator[Stored]:
        for path in list(self.root.glob("[0-9a-f][0-9a-f]/*")):
            with suppress(FileNotFoundError):  # just removed
                yield Stored(path.name, path.stat().st_mtime)

    def remove(self, digests: Collection[str]) -> None:
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        before = time.time() - older_than_s
        n_removed = 0
        for path in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # its writer has just committed it
                if path.stat().st_mtime < before:
                    path.unlink()
                    n_removed += 1
        return n_removed


class FileWriter:
    """One payload while it is received, as a file beside the others. ``nbytes`` : bytes received so far."""

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root = root
        self._sha256 = hashlib.sha256()
        self._path = incoming / secrets.token_hex(16)
        self.nbytes = 0
        with storage_errors():
            incoming.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb", buffering=0)

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._file.closed:
            self._file.close()
            self._path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        """sha256 of the bytes received so far."""
        return self._sha256.hexdigest()

    def write(self, piece: bytes) -> None:
        self._sha256.update(piece)
        self.nbytes += len(piece)
        view = memoryview(piece)
        with storage_errors():
            while view:
                view = view[self._file.write(view) :]

    def commit(self) -> str:
        """Make the payload durable under its digest: data, then name, then folder."""
        digest = self.digest
        folder = self._root / digest[:2]
        with storage_errors():
            sync_file(self._file)
            make_folder(folder)
            rename_durably(self._path, folder / digest)
            self._file.close()
        return digest
