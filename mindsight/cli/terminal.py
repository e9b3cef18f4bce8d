"""A stream's reports on a terminal, or in a file that its output goes to."""

from __future__ import annotations

import sys

EVERY = 50  # volumes, of which a file gets one line


class Terminal:
    """A ``client.report.Report``. Progress is one line that is overwritten on a terminal; warnings go to stderr.

    quiet : print warnings only, for a command whose result is JSON
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._is_open = False  # the line of progress has no end yet

    def progress(self, n_sent: int, n_missing: int, n_volumes: int | None = None) -> None:
        if self._quiet:
            return
        of = "" if n_volumes is None else f"/{n_volumes}"
        missing = f", {n_missing} missing" if n_missing else ""
        line = f"volume {n_sent}{of} acknowledged{missing}"
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{line}", end="", flush=True)
            self._is_open = True
        elif n_sent % EVERY == 0 or n_sent == n_volumes:
            print(line, flush=True)

    def info(self, text: str) -> None:
        if self._quiet:
            return
        self._end_line()
        print(text, flush=True)

    def warning(self, code: str, text: str) -> None:
        self._end_line()
        print(f"{text} [{code}]", file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._is_open:
            print(flush=True)
            self._is_open = False
