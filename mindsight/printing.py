"""Text for people on stdout and stderr: a line that a full disk does not take is lost, and nothing else is.

Knows nothing of what is printed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO


class Losing:
    """A stream that drops what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def outlive_full_logs() -> None:
    """A line that cannot be printed no longer ends this process, as if the input at hand had ended it."""
    sys.stdout, sys.stderr = Losing(sys.stdout), Losing(sys.stderr)
