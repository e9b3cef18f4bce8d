"""Images of one store, by digest. The last ones are kept in memory: a hundred dashboards ask for the same at once.

Knows nothing of who may see them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from mindsight.blobs import BlobStore
from mindsight.errors import NotFound
from mindsight.files.images import image_kind

MAX_IMAGE_BYTES = 8 * 1024 * 1024
KEPT_BYTES = 32 * 1024 * 1024
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    payload: bytes
    media_type: str


class Pictures:
    """May be shared between threads."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        self._loading = threading.Lock()  # who asks for an image that another just reads waits for it

    def kept(self, digest: str) -> Picture | None:
        """The image if it is in memory, and still in the store: one that was erased is not shown again."""
        with self._lock:
            picture = self._kept.get(digest)
            if picture is None:
                return None
            if not self._store.exists(digest):
                self._drop(digest)
                return None
            self._kept.move_to_end(digest)
            return picture

    def get(self, digest: str) -> Picture | None:
        """The image; None if there is none of this digest. Raises Diverged if its file is damaged."""
        with self._loading:
            return self.kept(digest) or self._load(digest)

    def _load(self, digest: str) -> Picture | None:
        path = self._store.path(digest)
        try:
            if path.stat().st_size > MAX_IMAGE_BYTES:
                return None
            payload = self._store.get(digest)
        except (FileNotFoundError, NotFound):
            return None
        media_type = MEDIA_TYPES.get(image_kind(payload) or "")
        if media_type is None:
            return None
        picture = Picture(payload, media_type)
        with self._lock:
            self._kept[digest] = picture
            self._n_bytes += len(payload)
            while self._n_bytes > KEPT_BYTES:
                self._drop(next(iter(self._kept)))
        return picture

    def _drop(self, digest: str) -> None:
        self._n_bytes -= len(self._kept.pop(digest).payload)
