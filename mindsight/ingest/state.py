"""A session's state between two calls, as it is stored.

Knows nothing of files or of what the arrays mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class IngestState:
    """Everything a session depends on.

    arrays : by name
    meta : the rest, as JSON allows it
    """

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


def part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
