"""Small files of the data folder: what a person, a failing disk or another version left there is an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mindsight.errors import BadRequest

T = TypeVar("T")


def read_stored(path: Path, parse: Callable[[bytes], T], what: str) -> T:
    """What ``parse`` makes of the file.

    what : the file should hold

    Raises BadRequest (``data.unreadable``), OSError.
    """
    content = path.read_bytes()
    try:
        return parse(content)
    except (ValueError, KeyError, TypeError):
        raise BadRequest(
            f"expected {what} in {path.name}, got a file that is damaged or of another version of Mindsight: restore it"
            " from a backup, or install that version",
            code="data.unreadable",
        ) from None
