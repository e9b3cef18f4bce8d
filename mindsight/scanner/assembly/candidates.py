"""Series that may become a run: what is known of one before it begins. Knows nothing of runs that are being read."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from mindsight.scanner.assembly.families import Family
from mindsight.scanner.assembly.live_timing import must_wait
from mindsight.scanner.echoes import Echo
from mindsight.scanner.formats.object_numbers import NEAR_SHARE, common_step, since_s
from mindsight.scanner.timing import usual_tr
from mindsight.volume import Volume

T = TypeVar("T")

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a series besides its volumes.

    is_run : it is known to be a run, without waiting for a second volume
    is_derived : the scanner computed it
    family, echo : its run's echoes and its own, if several echoes may arrive
    states_tr : a header or a person states the repetition time; otherwise only the volumes' clock can tell it
    """

    is_run: bool = False
    is_derived: bool = False
    family: Family | None = None
    echo: Echo | None = None
    states_tr: bool = True


PLAIN = Origin()


@dataclass(slots=True)
class Candidate:
    """A series that may be a run.

    overlaps : by its clock it was acquired during the running series; it begins only once that one has fallen silent
    volumes : those that have arrived, by position
    stated_s : the repetition times that its volumes state
    streak : its volumes since the running series last brought one
    """

    series: str
    origin: Origin
    overlaps: bool = False
    volumes: dict[int, Volume] = field(default_factory=dict)
    stated_s: list[float] = field(default_factory=list)
    streak: int = 0
    running_count: int = -1

    def stride(self, declared_s: float | None) -> int:
        """How far apart the numbers of successive volumes are: echoes or other series may share one count.

        Numbers with a common step have no gaps if the clock advances by one repetition time from volume to volume.
        """
        stride = 1 if self.origin.family is None else self.origin.family.stride
        step = common_step(self.volumes)
        if stride > 1 or step == 1 or len(self.volumes) < 2:
            return stride
        moments_s = [self.volumes[position].acquired_s for position in sorted(self.volumes)]
        steps = [since_s(*two) for two in pairwise(moments_s)]
        tr_s = declared_s or next(iter(self.volumes.values())).tr_s
        is_steady = all(one is not None and abs(one - tr_s) <= NEAR_SHARE * tr_s for one in steps)
        return step if is_steady else stride

    def must_wait(self, declared_s: float | None) -> bool:
        """Whether a third volume must decide the repetition time."""
        stride = self.stride(declared_s)
        by_index = {position // stride: volume for position, volume in self.volumes.items()}
        return must_wait(by_index, usual_tr(self.stated_s) if declared_s is None else declared_s)


def remember(memory: dict[str, T], series: str, value: T) -> None:
    """Keeps the value, for the latest MAX_REMEMBERED series."""
    memory[series] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]
