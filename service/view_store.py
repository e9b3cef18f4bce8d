"""Finished views of volumes, masks and betas: made once, for all who look. Knows nothing of what they show."""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

KEPT_BYTES = 32 * 1024 * 1024


@dataclass
class Views:
    """Finished views, gzipped, the least recently used leave first. May be used by several threads."""

    _kept: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _n_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The view of this name, gzipped; made by ``make`` if it is not there. One is made at a time."""
        with self._lock:
            found = self._kept.pop(name, None)
            if found is None:
                found = gzip.compress(make(), 1, mtime=0)
                self._n_bytes += len(found)
            self._kept[name] = found
            while self._n_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])
            return found
