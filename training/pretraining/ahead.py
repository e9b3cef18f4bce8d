"""The next part of a batch is read while networks compute on the one before.

Knows nothing of what is in a part.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from training.pretraining.batches import Part


class Ahead:
    """read : makes the part of a number; it is called in one thread, one call at a time"""

    def __init__(self, read: Callable[[int], Part]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._waiting: dict[int, Future[Part]] = {}

    def part(self, number: int, after: int | None) -> Part:
        """The part, and begin to read the one after it. Raises what reading raises."""
        ready = self._waiting.pop(number, None) or self._thread.submit(self._read, number)
        self._waiting.clear()
        found = ready.result()
        if after is not None:
            self._waiting[after] = self._thread.submit(self._read, after)
        return found
