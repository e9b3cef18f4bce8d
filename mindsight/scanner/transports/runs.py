"""Volumes of several series, mixed → runs, one after the other: which series is a run, and when one begins and ends.

Knows nothing of files, headers or sockets. Time is passed in.

A series is a run from its second volume on: a scout, an anatomical, a single-band reference has only one. What came
first is held until then, so the first volume of a run is one TR late and the others are not; unless what it came from
says that it is a run.

A run that is being read ends when another begins. What the scanner computes meanwhile, an older series that is sent
again, another echo or a few images of another shape are no other run, and do not end it. Numbers that begin anew with
other voxels are one, also where the sender calls the series as before. Where the clock says that a series was acquired
at the same time, as of a recording that is played twice, it is another run only once the first has fallen silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo, choice_note, choose
from mindsight.scanner.numbers import NEAR_SHARE, common_step, since_s
from mindsight.scanner.timing import usual_tr
from mindsight.scanner.transports.contract import Expected, Item, RunEnded, Trouble
from mindsight.scanner.transports.families import Family
from mindsight.scanner.transports.live_timing import LiveTiming, must_wait
from mindsight.scanner.transports.marks import mark_of
from mindsight.scanner.transports.order import Sequencer
from mindsight.volume import Volume

T = TypeVar("T")

MAX_CANDIDATES = 8
MAX_UNDECIDED = 4
MAX_REMEMBERED = 10_000
LATEST_START = 1000
OTHER_SHAPE_STREAK = 3  # a series of another shape may be maps or an anatomical in parts: two are not enough
SILENT_TRS = 2.5  # a run of which so long nothing came is over
COMPARABLE_S = 43_200.0  # clocks of one visit; dates may have been blanked, and midnight may have passed
MAX_MARKED_RUNS = 16
MAX_HELD = 64  # volumes of a series that begins only if the running one stays silent
_OVERLAPS = "it was acquired while the run was that is being read"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a series beside its volumes.

    is_run : it is known to be one, and no second volume is waited for
    is_derived : the scanner computed it
    family, echo : where several echoes may come
    states_tr : its volumes' repetition time is that of a header or a person; else only their clock tells it
    """

    is_run: bool = False
    is_derived: bool = False
    family: Family | None = None
    echo: Echo | None = None
    states_tr: bool = True


PLAIN = Origin()


@dataclass(slots=True)
class _Candidate:
    """A series that may be a run. streak : its volumes since the running series last brought one.

    stated_s : the repetition times that its volumes state
    overlaps : its clock says that it was acquired while the running series was. Only silence of that one makes it a run
    """

    series: str
    origin: Origin
    overlaps: bool = False
    volumes: dict[int, Volume] = field(default_factory=dict)
    stated_s: list[float] = field(default_factory=list)
    streak: int = 0
    running_count: int = -1


@dataclass(slots=True)
class _Running:
    series: str
    first: int
    shape: tuple[int, int, int]
    timing: LiveTiming
    order: Sequencer
    origin: Origin
    stride: int
    first_s: float | None
    newest_s: float | None
    came_s: float = 0.0
    count: int = 0
    marks: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Over:
    """A run that has ended. marks : of its volumes, by index."""

    run: int
    first: int
    stride: int
    marks: dict[int, int]


class Runs:
    """The one place where it is decided what is a run.

    run : number of the first; those that follow are counted up
    """

    def __init__(self, expected: Expected, late_s: float, run: int = 1) -> None:
        self._expected = expected
        self._late_s = late_s
        self._next_run = run
        self._running: _Running | None = None
        self._candidates: dict[str, _Candidate] = {}
        self._ignored: dict[str, None] = {}
        self._ended: dict[str, _Over] = {}
        self._last_derived: bool | None = None
        self._told_after: dict[str, None] = {}

    def is_over(self, series: str) -> bool:
        """Nothing of this series is wanted any more."""
        if self._running is not None and self._running.series == series:
            return False
        return series in self._ignored or series in self._ended

    def is_left(self, series: str) -> bool:
        """This series is no run. One that has ended may begin anew under its name."""
        return series in self._ignored

    def add(
        self, series: str, position: int, volume: Volume, now_s: float, *, is_run: bool = False, origin: Origin = PLAIN
    ) -> list[Item]:
        """One volume.

        series : what is the same for the volumes of one series (of several echoes, of one echo), and for no other
        position : its place in the series as the scanner counts, the first being 0
        is_run : the series is known to be one, and no second volume is waited for
        """
        origin = replace(origin, is_run=True) if is_run else origin
        if self._running is not None and self._running.series == series:
            return self._more(self._running, position, volume, now_s)
        if series in self._ended:
            return self._after_end(self._ended[series], series, position, volume, now_s, origin)
        if series in self._ignored:
            return []
        # What has a clock is judged by that as well, when the run begins.
        why_not = self._expected.why_not(volume.shape, volume.tr_s if volume.acquired_s is None else None)
        if why_not is not None:
            return self.ignore(series, why_not)
        left = self._left_echo(series, origin)
        if left is not None:
            return left
        if origin.is_run and self._running is not None:  # it ends by itself: another one is coming now
            return self.ignore(series, "it came whole while another run is being read", "series.parallel")
        return self._consider(series, series, position, volume, now_s, origin)

    def _left_echo(self, series: str, origin: Origin) -> list[Item] | None:
        """What is said of an echo that is not the one that is read; None where it may be."""
        family = origin.family
        if family is None or family.begun is None or origin.echo is None or origin.echo == family.begun:
            return None
        _remember(self._ignored, series, None)
        if origin.echo in family.named:
            return []
        family.named.add(origin.echo)
        return [Trouble("series.echoes", choice_note(family.begun, [family.begun, origin.echo]))]

    def _after_end(
        self, over: _Over, series: str, position: int, volume: Volume, now_s: float, origin: Origin
    ) -> list[Item]:
        if over.marks.get(position // over.stride - over.first, mark_of(volume)) != mark_of(volume):
            return self._again(series, position, volume, now_s, origin)
        if series in self._told_after:
            return []
        _remember(self._told_after, series, None)
        return [Trouble("volume.after_end", f"run {over.run}: volumes came after its end; dropped", None, over.run)]

    def _again(self, series: str, position: int, volume: Volume, now_s: float, origin: Origin) -> list[Item]:
        """A number that was there comes with other voxels: the sender may have begun another run under one name."""
        why_not = self._expected.why_not(volume.shape, volume.tr_s if volume.acquired_s is None else None)
        return [] if why_not is not None else self._consider(f"{series} again", series, position, volume, now_s, origin)

    def ignore(self, series: str, why: str, code: str = "series.ignored", *, lost: bool = False) -> list[Item]:
        """This series is no run; said once. lost : it should have been one"""
        if self.is_over(series):
            return []
        self._candidates.pop(series, None)
        _remember(self._ignored, series, None)
        return [Trouble(code, f"a series was passed over: {why}", lost=lost)]

    def end(self, series: str) -> list[Item]:
        """No more of this series comes."""
        if self._running is not None and self._running.series == series:
            return self._end()
        return self._undecided(series) if series in self._candidates else []

    def tick(self, now_s: float) -> list[Item]:
        running = self._running
        if running is None:
            return []
        told = running.order.tick(now_s)
        for key, candidate in list(self._candidates.items()):
            if candidate.overlaps and candidate.streak >= 2 and self._is_silent(candidate, now_s):
                return told + self._begin(key, now_s)
        return told

    def finish(self) -> list[Item]:
        """Nothing more comes."""
        told = self._end()
        for series in list(self._candidates):
            told += self._undecided(series)
        return told

    def _undecided(self, series: str) -> list[Item]:
        """No more comes of a series that has not begun: a run of two volumes that waited for a third, or none."""
        candidate = self._candidates[series]
        if candidate.overlaps:
            return self.ignore(series, _OVERLAPS)
        if candidate.streak >= 2 and self._must_wait(candidate):
            return [*self._begin(series, 0.0), *self._end()]
        return self.ignore(series, "it had no second volume")

    def _more(self, running: _Running, position: int, volume: Volume, now_s: float) -> list[Item]:
        run, index = running.order.run, position // running.stride - running.first
        if index < 0:
            text = f"run {run}: a volume is numbered before the first of its run; dropped"
            return [Trouble("volume.number", text, None, run)]
        if volume.shape != running.shape:
            text = f"run {run}: volume {index}: expected the shape {running.shape} of the first, got {volume.shape}"
            return [Trouble("volume.shape_mismatch", text, index, run)]
        mark = mark_of(volume)
        if running.marks.setdefault(index, mark) != mark:
            return self._again(running.series, position, volume, now_s, running.origin)
        running.count += 1
        running.came_s = now_s
        running.newest_s = max((s for s in (running.newest_s, volume.acquired_s) if s is not None), default=None)
        told: list[Item] = []
        volume = running.timing.applied(replace(volume, run=run, index=index), told)
        told += running.order.put(volume, now_s)
        n_volumes = self._expected.n_volumes
        if n_volumes is not None and running.order.next_index >= n_volumes:
            told += self._end()
        return told

    def _consider(
        self, key: str, series: str, position: int, volume: Volume, now_s: float, origin: Origin
    ) -> list[Item]:
        """key : the series, or what a second run of this name is called until it is known to be one"""
        told: list[Item] = []
        why_not = self._why_no_run(volume, origin)
        if why_not is not None:
            return self.ignore(key, why_not)
        candidate = self._candidates.get(key)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                told += self.ignore(next(iter(self._candidates)), "it had no second volume for long")
            candidate = self._candidates[key] = _Candidate(series, origin)
        if position in candidate.volumes:
            return [
                *told,
                Trouble("volume.doubled", "a volume of a run not yet begun came twice; dropped"),
            ]
        candidate.volumes[position] = volume
        candidate.stated_s += [volume.tr_s] if origin.states_tr else []
        # A late volume of the run before may come in between; a series that keeps pace with the run is no successor.
        running_count = -1 if self._running is None else self._running.count
        candidate.streak = candidate.streak + 1 if running_count == candidate.running_count else 1
        candidate.running_count = running_count
        candidate.overlaps = candidate.overlaps or self._overlaps(volume, origin)
        if candidate.overlaps and not self._is_silent(candidate, now_s):
            if candidate.streak == len(candidate.volumes) <= MAX_HELD:
                return told
            return told + self.ignore(key, _OVERLAPS)
        if origin.is_run or candidate.streak >= self._streak(volume, now_s):
            not_yet = self._waits_for_echo(key, candidate)
            if not_yet is None and not self._must_wait(candidate):
                return told + self._begin(key, now_s)
            told += not_yet or []
        if len(candidate.volumes) >= MAX_UNDECIDED and key in self._candidates:
            return told + self.ignore(key, "it runs beside the series that is being read", "series.parallel")
        return told

    def _why_no_run(self, volume: Volume, origin: Origin) -> str | None:
        """What speaks against another run while one is being read, or after one; None where nothing does."""
        if origin.is_derived and self._last_derived is False:
            return "the scanner computed it, and it did not compute the run"
        running = self._running
        if running is None or volume.acquired_s is None or running.first_s is None or running.newest_s is None:
            return None
        if 0.0 < running.first_s - volume.acquired_s < COMPARABLE_S:
            return "it is older than the run that is being read"
        return None

    def _overlaps(self, volume: Volume, origin: Origin) -> bool:
        running = self._running
        if running is None or volume.acquired_s is None or running.first_s is None or running.newest_s is None:
            return False
        is_between = running.first_s < volume.acquired_s < running.newest_s
        return is_between and origin.family is not running.origin.family

    def _is_silent(self, candidate: _Candidate, now_s: float) -> bool:
        """Nothing came of the running series for so long that it is over."""
        tr_s = next(iter(candidate.volumes.values())).tr_s
        return self._running is None or now_s - self._running.came_s > SILENT_TRS * tr_s

    def _streak(self, volume: Volume, now_s: float) -> int:
        """Volumes in a row that make another run."""
        running = self._running
        if running is None or volume.shape == running.shape or now_s - running.came_s > SILENT_TRS * volume.tr_s:
            return 2
        return OTHER_SHAPE_STREAK

    def _waits_for_echo(self, key: str, candidate: _Candidate) -> list[Item] | None:
        """None where this echo is the run; else what is said, and it is waited for the one that is."""
        family, echo, choice = candidate.origin.family, candidate.origin.echo, self._expected.echo
        if family is None or echo is None or choice == "combine":
            return None
        try:
            chosen = choose(family.echoes, choice)
        except BadVolume as error:
            return self.ignore(key, str(error), error.code)
        is_first = choice is not None or (chosen.number or 1) == 1
        if chosen == echo and is_first:
            return None
        return None if choice is None and len(candidate.volumes) >= MAX_UNDECIDED else []

    def _stride(self, candidate: _Candidate) -> int:
        """By how much the numbers of the volumes go up: those of several echoes or series may count along.

        Numbers with a gap have none where the clock goes on by one repetition time from each volume to the next.
        """
        family, volumes = candidate.origin.family, candidate.volumes
        stride = 1 if family is None else family.stride
        step = common_step(volumes)
        if stride > 1 or step == 1 or len(volumes) < 2:
            return stride
        moments_s = [volumes[place].acquired_s for place in sorted(volumes)]
        steps = [since_s(*two) for two in pairwise(moments_s)]
        tr_s = self._expected.tr_s or next(iter(volumes.values())).tr_s
        go_on = all(one is not None and abs(one - tr_s) <= NEAR_SHARE * tr_s for one in steps)
        return step if go_on else stride

    def _must_wait(self, candidate: _Candidate) -> bool:
        stride = self._stride(candidate)
        by_place = {place // stride: volume for place, volume in candidate.volumes.items()}
        declared_s = self._expected.tr_s
        return must_wait(by_place, usual_tr(candidate.stated_s) if declared_s is None else declared_s)

    def _begin(self, key: str, now_s: float) -> list[Item]:
        candidate = self._candidates[key]
        family, echo, volumes = candidate.origin.family, candidate.origin.echo, candidate.volumes
        stride = self._stride(candidate)
        earliest = volumes[min(volumes)]
        by_place = {position // stride: volume for position, volume in volumes.items()}
        try:
            timing = LiveTiming(self._next_run, by_place, usual_tr(candidate.stated_s), self._expected.tr_s)
        except BadVolume as error:
            if self._expected.tr_s is not None:  # which also says which series is the run
                return self.ignore(key, str(error))
            return self.ignore(key, str(error), error.code, lost=True)
        if not timing.has_clock and (why_not := self._expected.why_not(earliest.shape, earliest.tr_s)) is not None:
            return self.ignore(key, why_not)
        del self._candidates[key]
        told = self._end()
        if family is not None and echo is not None and self._expected.echo != "combine":
            family.begun = echo
            family.named.update(family.echoes)
            if len(family.echoes) > 1:
                told.append(Trouble("series.echoes", choice_note(echo, family.echoes)))
        for other, one in list(self._candidates.items()):
            if family is not None and one.origin.family is family:
                del self._candidates[other]
                _remember(self._ignored, other, None)
            else:
                told += self.ignore(other, "it had no second volume")
        first = min(volumes) // stride
        run, self._next_run = self._next_run, self._next_run + 1
        if stride > (1 if family is None else family.stride):
            text = f"run {run}: numbers go up by {stride} from volume to volume, their clock by one TR: no gaps"
            told.append(Trouble("run.numbering", text, None, run))
        if first > LATEST_START:
            text = f"run {run}: the first volume that came is numbered {first + 1}; counting from there"
            told.append(Trouble("run.numbering", text, None, run))
        self._last_derived = candidate.origin.is_derived
        self._running = running = _Running(
            series=candidate.series,
            first=first if first < 0 or first > LATEST_START else 0,
            shape=earliest.shape,
            timing=timing,
            order=Sequencer(run, self._late_s),
            origin=candidate.origin,
            stride=stride,
            first_s=earliest.acquired_s,
            newest_s=earliest.acquired_s,
        )
        told += timing.told
        for position, volume in volumes.items():
            if self._running is running:
                told += self._more(running, position, volume, now_s)
        return told

    def _end(self) -> list[Item]:
        if self._running is None:
            return []
        running, self._running = self._running, None
        over = _Over(running.order.run, running.first, running.stride, running.marks)
        self._ended.pop(running.series, None)
        _remember(self._ended, running.series, over)
        self._told_after.pop(running.series, None)
        for older in list(self._ended.values())[-MAX_MARKED_RUNS - 1 : -MAX_MARKED_RUNS]:
            older.marks.clear()
        return list(self._checked(running.order.end()))

    def _checked(self, told: list[Item]) -> Iterator[Item]:
        n_volumes = self._expected.n_volumes
        for item in told:
            if isinstance(item, RunEnded) and n_volumes is not None and item.n_volumes < n_volumes:
                text = f"run {item.run}: ended after {item.n_volumes} of {n_volumes} volumes"
                yield Trouble("run.short", text, None, item.run, lost=True)
            yield item


def _remember(memory: dict[str, T], series: str, value: T) -> None:
    memory[series] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]
