"""What every transport delivers: volumes in order, with warnings in between.

Knows nothing of any particular transport, and reads no clock but the one it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Self

from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.assembly.items import Item, RunEnded, TransportWarning

# Expected, Item, RunEnded and TransportWarning were here up to 0.1; they are handed on for one version
__all__ = ["FAILED", "Clock", "Expected", "Item", "Patience", "RunEnded", "Timeouts", "Transport", "TransportWarning"]

FAILED = "transport.failed"
"""Code of the warning after which a transport can bring nothing more."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    idle_s : without any data, before the stream ends
    late_s : for a volume whose successor has arrived, before it counts as missing
    whole_s : for an unreadable file that has stopped changing, before it is skipped until it changes again
    stall_s : for the next bytes of a message that has begun, before the connection is closed
    """

    idle_s: float = 300.0
    late_s: float = 3.0
    whole_s: float = 10.0
    stall_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks that a transport reads.

    wall_s : seconds since the Unix epoch
    monotonic_s : seconds that never go back, for deadlines
    """

    wall_s: Callable[[], float]
    monotonic_s: Callable[[], float]


class Transport(Protocol):
    """A way for data to come in. It listens from its construction until it is closed.

    ``items`` yields volumes and warnings in order, run after run. It ends after ``Timeouts.idle_s`` without data or
    once the transport is closed, after yielding everything that was held back. It never raises for what a peer sent.
    It may be called once.
    """

    def items(self) -> Iterator[Item]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


Patience = Timeouts  # the name up to 0.1, kept for one version
