"""What a store of payloads does, wherever it keeps them. Knows nothing of what the payloads are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

from mindsight.errors import NotFound

SIDE_BY_SIDE = 8  # payloads that are written or removed at a time: most of the time is spent waiting
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Stored(NamedTuple):
    """modified_t : Unix time at which it was put last, by the store's clock"""

    digest: str
    modified_t: float


class BlobWriter(Protocol):
    """One payload while it is received. A ``with`` block left without ``commit`` leaves nothing in the store.

    nbytes : bytes received so far. Every method raises as the store does.
    """

    nbytes: int

    def __enter__(self) -> BlobWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    @property
    def digest(self) -> str:
        """sha256 of the bytes received so far."""
        ...

    def write(self, piece: bytes) -> None: ...

    def commit(self) -> str:
        """Make the payload durable and return its digest."""
        ...


class Blobs(Protocol):
    """Payloads by their sha256, which is handed out once the payload is durable.

    A store may be used by several threads and processes at once. What writes raises StorageFull if a payload cannot be
    made durable; everything raises StorageUnavailable if the store is on the network and does not answer in time.

    is_near : whether asking costs no request over a network, so that a coroutine may ask, too
    """

    is_near: bool

    def put(self, payload: bytes) -> str:
        """Make the payload durable and return its digest. Putting a payload again repairs a damaged one."""
        ...

    def put_many(self, payloads: Sequence[bytes]) -> list[str]:
        """``put`` each payload, several at a time."""
        ...

    def writer(self) -> BlobWriter:
        """For a payload that arrives in pieces."""
        ...

    def get(self, digest: str) -> bytes:
        """The payload, checked against its digest.

        Raises NotFound; Diverged (``blob.corrupt``) if what is stored does not match its digest: put it again.
        """
        ...

    def beginning(self, digest: str, n_bytes: int) -> bytes:
        """The payload's first bytes, not checked. Raises NotFound."""
        ...

    def size(self, digest: str) -> int:
        """Bytes of the payload. Raises NotFound."""
        ...

    def exists(self, digest: str) -> bool: ...

    def listed(self) -> Iterator[Stored]:
        """Every payload, in no order. One that is put or removed meanwhile may be among them or not."""
        ...

    def remove(self, digests: Collection[str]) -> None:
        """Remove the payloads, those that are not there too; no version of one is left when this returns."""
        ...

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        """Remove what killed writers left behind; return how many there were."""
        ...


def checked(digest: str) -> str:
    """Raises NotFound if ``digest`` is no sha256."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound("expected a sha256 in lower-case hexadecimal", code="blob.unknown")
    return digest


def unknown() -> NotFound:
    return NotFound("there is no such payload", code="blob.unknown")
