"""The one guard around all reading of scanner data: whatever a parser raises becomes an error of ours.

Knows nothing of formats or transports. Parsers raise anything on malformed bytes (NameError, struct.error,
MemoryError). None of it may end a stream, or stay attached to our error, since it may quote the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from mindsight.errors import BadVolume, MindsightError

T = TypeVar("T")


def guarded(do: Callable[[], T]) -> T:
    """The result of ``do``. Raises BadVolume, or another error of ours, whatever fails in it."""
    try:
        return do()
    except MindsightError:
        raise
    except OSError as error:
        why = error.strerror or "no reason given"  # the whole text of an OSError holds a path
    except Exception as error:
        why = type(error).__name__
    raise BadVolume(
        f"expected readable data, got data at which the reader fails ({why}); it is skipped, please report it",
        code="object.unreadable",
    )


def each_guarded(found: Iterable[T]) -> Iterator[T]:
    """The items of an iterable; its errors are raised as by ``guarded``."""
    rest = iter(found)
    while following := guarded(lambda: list(islice(rest, 1))):
        yield following[0]
