"""What every transport delivers: volumes in order, with warnings in between.

Knows nothing of any particular transport, and reads no clock but the one it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Self

from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.kinds import MAGNITUDE, Kind
from mindsight.volume import Volume, same_tr

FAILED = "transport.failed"
"""Code of the warning after which a transport can bring nothing more."""


@dataclass(frozen=True, slots=True)
class TransportWarning:
    """A problem, reported in its place among the volumes. It never holds a name, a path or an address.

    code : stable, for programs: ``volume.missing``, ``volume.doubled``, ``series.ignored``, or that of a BadVolume
    text : for the operator: what happened, what Mindsight did, and what to do about it
    index, run : of the volume concerned, if there is one
    missing : the run will never get a volume at this index; it must be declared missing
    lost : data that arrived, or should have, is in no volume; the exit code of the stream reports it
    """

    code: str
    text: str
    index: int | None = None
    run: int | None = None
    missing: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class RunEnded:
    """No more volumes of this run will arrive.

    n_volumes : TRs from the first volume to the last, missing volumes included
    """

    run: int
    n_volumes: int


Item = Volume | TransportWarning | RunEnded


@dataclass(frozen=True, slots=True)
class Expected:
    """Which series is the run; None accepts any.

    shape : (X, Y, Z) voxels
    tr_s : repetition time in seconds, compared to a millisecond or a thousandth. It stands in for the TR of files that
        state none. The clock of the volumes must agree with it if they have one (``timing.py``); the header need not
    n_volumes : volumes per run; the run ends with the last of them
    motion_corrected : take the scanner's own motion-corrected series and ignore the raw one
    echo : number of the echo to take, or all of them combined; the first by default
    """

    shape: tuple[int, int, int] | None = None
    tr_s: float | None = None
    n_volumes: int | None = None
    motion_corrected: bool = False
    echo: EchoChoice = None

    def why_not_kind(self, kind: Kind) -> str | None:
        """Why a series of this kind is not the run; None if it may be."""
        if kind.component not in (MAGNITUDE, "mixed"):
            return f"it holds {kind} images, not magnitude images"
        if kind.computed:
            return f"it holds {kind} images, not a run"
        if kind.corrected and not self.motion_corrected:
            return "the scanner corrected it for motion; set moco=1 to use it instead of the raw series"
        if self.motion_corrected and not kind.corrected:
            return "the scanner did not correct it for motion; remove moco=1 to use it"
        return None

    def why_not(self, shape: tuple[int, int, int], tr_s: float | None) -> str | None:
        """Why a series of such volumes is not the run; None if it may be. tr_s : None while it is unknown"""
        if self.shape is not None and shape != self.shape:
            return f"expected volumes of {_sides(self.shape)} voxels, got {_sides(shape)}"
        if self.tr_s is not None and tr_s is not None and not same_tr(tr_s, self.tr_s):
            return f"expected a TR of {self.tr_s:g} s, got {tr_s:g} s"
        return None


def _sides(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))


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


Trouble = TransportWarning  # the names up to 0.1, kept for one version
Patience = Timeouts
