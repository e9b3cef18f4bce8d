"""The one guard around all that reads what came from a scanner: what a parser raises becomes an error of ours.

Knows nothing of formats or transports. Parsers raise what they like on bytes that are not what they claim to be
(NameError, struct.error, MemoryError); none of it may end a stream, or hang on to an error of ours, as it may quote the
file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from mindsight.errors import BadVolume, MindsightError

T = TypeVar("T")


def guarded(do: Callable[[], T]) -> T:
    """What ``do`` returns. Raises BadVolume, or another error of ours, whatever goes wrong in it."""
    try:
        return do()
    except MindsightError:
        raise
    except OSError as error:
        why = error.strerror or "no reason given"  # the whole text of an OSError holds a path
    except Exception as error:
        why = type(error).__name__
    raise BadVolume(
        f"expected something that can be read, got what its reader fails at ({why}); it is left out, please report it",
        code="object.unreadable",
    )


def each_guarded(found: Iterable[T]) -> Iterator[T]:
    """The same, one after the other; an error comes as by ``guarded``, after what came before it."""
    rest = iter(found)
    while following := guarded(lambda: list(islice(rest, 1))):
        yield following[0]
