"""The share of a task that is done, counted in its parts: bytes, files, images. Knows nothing of who is shown it."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, float], None]
"""Receives what is being done, and the share of all that is done, from 0 to 1."""
Count = Callable[[int], None]
"""Receives how much has been done since it was called last."""

_UNFINISHED = 0.99  # at most: what follows the last part takes a moment, too


def unreported(what: str, done: float) -> None:
    """A report to nobody."""


def uncounted(n: int) -> None:
    """A count for nobody."""


def within(report: Report, start: float, end: float) -> Report:
    """Reports a part of a task as this stretch of the whole."""
    return lambda what, done: report(what, start + (end - start) * done)


class Shares:
    """Adds up what is done.

    report : receives each sum as a share
    total : of all parts, in one unit
    """

    def __init__(self, report: Report, total: float) -> None:
        self._report, self._total, self._done = report, max(1.0, total), 0.0

    def add(self, what: str, n: float) -> None:
        self._done += n
        self._report(what, min(_UNFINISHED, self._done / self._total))

    def of(self, what: str) -> Count:
        """Adds what is counted of one part."""
        return lambda n: self.add(what, n)
