"""What every way into Mindsight delivers: volumes in order, and what was wrong, in between.

Knows nothing of any transport, and of no clock but the one it is given.
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
"""Code of the trouble after which a transport can bring nothing more."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that was wrong, told in order with the volumes. It never holds a name, a path or an address.

    code : stable, for programs: ``volume.missing``, ``volume.doubled``, ``series.ignored``, or that of a BadVolume
    text : for a person
    index, run : of the volume it is about, where it is about one
    missing : the run has no volume at this index, and will not get one; to be declared missing
    lost : something that came, or should have, is in no volume; whoever started the stream learns it by the exit code
    """

    code: str
    text: str
    index: int | None = None
    run: int | None = None
    missing: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class RunEnded:
    """No more volumes of this run will come.

    n_volumes : TRs from the first volume to the last, missing ones included
    """

    run: int
    n_volumes: int


Item = Volume | Trouble | RunEnded


@dataclass(frozen=True, slots=True)
class Expected:
    """Which series is the run; None where any will do.

    shape : (X, Y, Z) voxels
    tr_s : seconds, compared to a millisecond or a thousandth; taken for that of files that state none. Where the
        volumes have a clock, that must agree, see ``timing.py``, and the header need not
    n_volumes : volumes of each run; the run ends with the last of them
    motion_corrected : take the scanner's own motion-corrected series, and leave the raw one
    echo : of several echoes the one of this number, or all of them combined; without, the first
    """

    shape: tuple[int, int, int] | None = None
    tr_s: float | None = None
    n_volumes: int | None = None
    motion_corrected: bool = False
    echo: EchoChoice = None

    def why_not_kind(self, kind: Kind) -> str | None:
        """What speaks against a series of this kind; None where nothing does."""
        if kind.component not in (MAGNITUDE, "mixed"):
            return f"it holds {kind} images, not magnitudes"
        if kind.computed:
            return f"it holds {kind} images, no run"
        if kind.corrected != self.motion_corrected:
            said = "" if kind.corrected else "not "
            return f"it is {said}corrected for motion by the scanner; `motion_corrected` chooses"
        return None

    def why_not(self, shape: tuple[int, int, int], tr_s: float | None) -> str | None:
        """What speaks against a series of such volumes; None where nothing does. tr_s : None where it is yet unknown"""
        if self.shape is not None and shape != self.shape:
            return f"expected volumes of {_sides(self.shape)} voxels, got {_sides(shape)}"
        if self.tr_s is not None and tr_s is not None and not same_tr(tr_s, self.tr_s):
            return f"expected a TR of {self.tr_s:g} s, got {tr_s:g} s"
        return None


def _sides(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each thing is waited for, in seconds.

    idle_s : with nothing coming; then the stream ends
    late_s : for a volume whose successor has come; then it is missing
    whole_s : for a file that does not change and cannot be read; then it is given up until it changes
    stall_s : for the next bytes of a message that has begun; then the connection is closed
    """

    idle_s: float = 300.0
    late_s: float = 3.0
    whole_s: float = 10.0
    stall_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Clock:
    """wall_s : seconds since the Unix epoch. monotonic_s : seconds that only go forward, for deadlines."""

    wall_s: Callable[[], float]
    monotonic_s: Callable[[], float]


class Transport(Protocol):
    """A way in. It listens from when it is made until it is closed.

    ``items`` gives what came, in order, run after run, and ends when nothing came for ``Patience.idle_s`` or the
    transport was closed, having told all it held back; it waits for nothing longer than that, and raises nothing for
    what a peer sent. It may be called once.
    """

    def items(self) -> Iterator[Item]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
