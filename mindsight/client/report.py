"""What a stream reports to the person who runs it. The command line prints it; another program may show or log it."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    def progress(self, n_sent: int, n_missing: int, n_volumes: int | None = None) -> None:
        """Called after each acknowledged volume of a run; ``n_volumes`` is the run's length if it is known."""

    def info(self, text: str) -> None: ...

    def warning(self, code: str, text: str) -> None:
        """Something is wrong, and the stream continues. ``code`` is stable, for programs."""
