"""Images of one store, by digest. The last ones are kept in memory: a hundred dashboards ask for the same at once.

Knows nothing of who may see them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from mindsight.blobs import Blobs
from mindsight.errors import NotFound
from mindsight.files.images import image_kind

MAX_IMAGE_BYTES = 8 * 1024 * 1024
KEPT_BYTES = 32 * 1024 * 1024
SEEN_S = 10.0  # for which an image that was read from a store on the network is taken to be there
_LOCKS = 16
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """seen_s : time at which it was read, of ``time.monotonic``"""

    payload: bytes
    media_type: str
    seen_s: float


class Pictures:
    """May be shared between threads."""

    def __init__(self, store: Blobs) -> None:
        self._store = store
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        # who asks for an image that another just reads waits for it
        self._loading = [threading.Lock() for _ in range(_LOCKS)]

    def kept(self, digest: str) -> Picture | None:
        """The image if it is in memory, and still in the store: one that was erased is not shown again."""
        with self._lock:
            picture = self._kept.get(digest)
            if picture is None:
                return None
            if self._store.is_near:
                if not self._store.exists(digest):
                    self._drop(digest)
                    return None
            elif time.monotonic() - picture.seen_s > SEEN_S:
                return None
            self._kept.move_to_end(digest)
            return picture

    def get(self, digest: str) -> Picture | None:
        """The image; None if there is none of this digest. Raises Diverged if it is damaged, StorageUnavailable."""
        with self._loading[hash(digest) % _LOCKS]:
            return self.kept(digest) or self._load(digest)

    def _load(self, digest: str) -> Picture | None:
        try:
            if self._store.size(digest) > MAX_IMAGE_BYTES:
                return None
            payload = self._store.get(digest)
        except NotFound:
            self._forget(digest)
            return None
        media_type = MEDIA_TYPES.get(image_kind(payload) or "")
        if media_type is None:
            return None
        picture = Picture(payload, media_type, time.monotonic())
        self._forget(digest)
        with self._lock:
            self._kept[digest] = picture
            self._n_bytes += len(payload)
            while self._n_bytes > KEPT_BYTES:
                self._drop(next(iter(self._kept)))
        return picture

    def _forget(self, digest: str) -> None:
        with self._lock:
            if digest in self._kept:
                self._drop(digest)

    def _drop(self, digest: str) -> None:
        self._n_bytes -= len(self._kept.pop(digest).payload)
