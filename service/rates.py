"""How often one key may ask, and one address may try keys: token buckets.

Knows nothing of HTTP. Volumes are never counted: what a scanner measures is taken at any pace.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from mindsight.errors import MindsightError

MAX_NAMES = 10_000


class TooMany(MindsightError):
    """More requests than one key may make."""

    code = "request.rate"
    is_transient = True


@dataclass
class Buckets:
    """One bucket per name: ``burst`` tokens, refilled with ``per_s``. May be shared between threads."""

    per_s: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> bool:
        """Whether there was a token. The names that were used longest ago are forgotten first."""
        with self._lock:
            now = self.clock()
            left, at = self._left.pop(name, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.per_s)
            allowed = left >= 1.0
            self._left[name] = (left - 1.0 if allowed else left, now)
            while len(self._left) > MAX_NAMES:
                self._left.popitem(last=False)
            return allowed
