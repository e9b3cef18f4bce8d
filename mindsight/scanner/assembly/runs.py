"""Volumes of several series, mixed → runs, one after the other: which series is a run, and when it begins and ends.

Knows nothing of files, headers or sockets. Time is passed in.

A series becomes a run with its second volume: a scout, an anatomical or a single-band reference has only one. The first
volume is held until then, so it is one TR late and the others are not, unless the source says that it is a run.

A run ends when another begins. Images that the scanner computes meanwhile, an older series that is sent again, another
echo, or a few images of another shape are not another run, and do not end it. Numbers that restart with other voxels
are another run, even under the same series name. A series whose clock says that it was acquired at the same time (a
recording that is played twice) becomes a run only once the first has fallen silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.candidates import PLAIN, Candidate, Origin, remember
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.assembly.families import Family
from mindsight.scanner.assembly.items import Item, RunEnded, TransportWarning
from mindsight.scanner.assembly.live_timing import LiveTiming
from mindsight.scanner.assembly.marks import mark_of
from mindsight.scanner.assembly.sequence import Sequencer
from mindsight.scanner.echoes import Echo, choice_note, choose
from mindsight.scanner.timing import usual_tr
from mindsight.volume import Volume

MAX_CANDIDATES = 8
MAX_UNDECIDED = 4
LATEST_START = 1000
OTHER_SHAPE_STREAK = 3  # a series of another shape may be maps or an anatomical in parts: two are not enough
SILENT_TRS = 2.5  # a run that brings nothing for this long is over
COMPARABLE_S = 43_200.0  # clocks of one visit; dates may have been blanked, and midnight may have passed
MAX_MARKED_RUNS = 16
MAX_HELD = 64  # volumes of a series that begins only if the running one falls silent
_WHOLE = "it arrived whole while another run is being read; send it again afterwards"
_PARALLEL = "it arrives in parallel with the run that is being read; choose one by shape= or tr="
_TOO_MANY = "its second volume did not arrive in time; choose the run by shape= or tr="
_OVERLAPS = "it was acquired during the run that is being read"


@dataclass(slots=True)
class _Running:
    """The run that is being read.

    first : number of its first volume
    stride : how far apart the numbers of successive volumes are
    first_s, newest_s : when its first and its latest volume were acquired, None without a clock
    came_s : when its latest volume arrived
    marks : checksums of its volumes by index
    """

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
class _EndedRun:
    """A run that has ended. marks : checksums of its volumes by index."""

    run: int
    first: int
    stride: int
    marks: dict[int, int]


class Runs:
    """Decides what is a run.

    expected : which series are acceptable
    late_s : how long a volume may be late
    run : number of the first run; the next ones count up
    """

    def __init__(self, expected: Expected, late_s: float, run: int = 1) -> None:
        self._expected = expected
        self._late_s = late_s
        self._next_run = run
        self._running: _Running | None = None
        self._candidates: dict[str, Candidate] = {}
        self._ignored: dict[str, None] = {}
        self._ended: dict[str, _EndedRun] = {}
        self._last_derived: bool | None = None
        self._late_reported: dict[str, None] = {}

    def is_over(self, series: str) -> bool:
        """Whether this series is done with: it has ended or is ignored."""
        if self._running is not None and self._running.series == series:
            return False
        return series in self._ignored or series in self._ended

    def is_left(self, series: str) -> bool:
        """Whether this series is ignored. One that has ended may still begin another run under its name."""
        return series in self._ignored

    def add(
        self, series: str, position: int, volume: Volume, now_s: float, *, is_run: bool = False, origin: Origin = PLAIN
    ) -> list[Item]:
        """Adds one volume.

        series : a key for the volumes of one series (of one echo, if there are several)
        position : of the volume in its series, as the scanner counts, from 0
        is_run : the series is known to be a run, without waiting for a second volume
        """
        origin = replace(origin, is_run=True) if is_run else origin
        if self._running is not None and self._running.series == series:
            return self._more(self._running, position, volume, now_s)
        if series in self._ended:
            return self._after_end(self._ended[series], series, position, volume, now_s, origin)
        if series in self._ignored:
            return []
        # The repetition time of volumes with a clock is checked when the run begins.
        why_not = self._expected.why_not(volume.shape, volume.tr_s if volume.acquired_s is None else None)
        if why_not is not None:
            return self.ignore(series, why_not)
        left = self._left_echo(series, origin)
        if left is not None:
            return left
        if origin.is_run and self._running is not None:  # a whole run at once, while another one is arriving
            return self.ignore(series, _WHOLE, "series.parallel")
        return self._consider(series, series, position, volume, now_s, origin)

    def _left_echo(self, series: str, origin: Origin) -> list[Item] | None:
        """Warnings about an echo that is not the one being read; None if it may be that one."""
        family = origin.family
        if family is None or family.begun is None or origin.echo is None or origin.echo == family.begun:
            return None
        remember(self._ignored, series, None)
        if origin.echo in family.named:
            return []
        family.named.add(origin.echo)
        return [TransportWarning("series.echoes", choice_note(family.begun, [family.begun, origin.echo]))]

    def _after_end(
        self, over: _EndedRun, series: str, position: int, volume: Volume, now_s: float, origin: Origin
    ) -> list[Item]:
        if over.marks.get(position // over.stride - over.first, mark_of(volume)) != mark_of(volume):
            return self._again(series, position, volume, now_s, origin)
        if series in self._late_reported:
            return []
        remember(self._late_reported, series, None)
        text = f"run {over.run}: dropped volumes that arrived after its end; check n and late if they belong to it"
        return [TransportWarning("volume.after_end", text, None, over.run)]

    def _again(self, series: str, position: int, volume: Volume, now_s: float, origin: Origin) -> list[Item]:
        """A known number arrives with other voxels: the sender may have begun another run under the same name."""
        why_not = self._expected.why_not(volume.shape, volume.tr_s if volume.acquired_s is None else None)
        return [] if why_not is not None else self._consider(f"{series} again", series, position, volume, now_s, origin)

    def ignore(self, series: str, why: str, code: str = "series.ignored", *, lost: bool = False) -> list[Item]:
        """Ignores the series, with one warning. lost : it should have been a run"""
        if self.is_over(series):
            return []
        self._candidates.pop(series, None)
        remember(self._ignored, series, None)
        return [TransportWarning(code, f"ignored a series: {why}", lost=lost)]

    def end(self, series: str) -> list[Item]:
        """The end of a series: no more volumes of it will arrive."""
        if self._running is not None and self._running.series == series:
            return self._end()
        return self._undecided(series) if series in self._candidates else []

    def tick(self, now_s: float) -> list[Item]:
        running = self._running
        if running is None:
            return []
        items = running.order.tick(now_s)
        for key, candidate in list(self._candidates.items()):
            if candidate.overlaps and candidate.streak >= 2 and self._is_silent(candidate, now_s):
                return items + self._begin(key, now_s)
        return items

    def finish(self) -> list[Item]:
        """The end of all series: nothing more will arrive."""
        items = self._end()
        for series in list(self._candidates):
            items += self._undecided(series)
        return items

    def _undecided(self, series: str) -> list[Item]:
        """The end of a series that has not begun: a run of two volumes that waited for a third, or no run."""
        candidate = self._candidates[series]
        if candidate.overlaps:
            return self.ignore(series, _OVERLAPS)
        if candidate.streak >= 2 and candidate.must_wait(self._expected.tr_s):
            return [*self._begin(series, 0.0), *self._end()]
        return self.ignore(series, "it had no second volume")

    def _more(self, running: _Running, position: int, volume: Volume, now_s: float) -> list[Item]:
        run, index = running.order.run, position // running.stride - running.first
        if index < 0:
            text = f"run {run}: dropped a volume numbered before the first of its run; check the sender's numbering"
            return [TransportWarning("volume.number", text, None, run)]
        if volume.shape != running.shape:
            text = (
                f"run {run}: volume {index}: expected the shape {running.shape} of the first, got {volume.shape}; it is"
                " dropped, start another run for another matrix"
            )
            return [TransportWarning("volume.shape_mismatch", text, index, run)]
        mark = mark_of(volume)
        if running.marks.setdefault(index, mark) != mark:
            return self._again(running.series, position, volume, now_s, running.origin)
        running.count += 1
        running.came_s = now_s
        running.newest_s = max((s for s in (running.newest_s, volume.acquired_s) if s is not None), default=None)
        items: list[Item] = []
        volume = running.timing.applied(replace(volume, run=run, index=index), items)
        items += running.order.put(volume, now_s)
        n_volumes = self._expected.n_volumes
        if n_volumes is not None and running.order.next_index >= n_volumes:
            items += self._end()
        return items

    def _consider(
        self, key: str, series: str, position: int, volume: Volume, now_s: float, origin: Origin
    ) -> list[Item]:
        """Begins a run if the series is one. key : the series, or a second run under the same name"""
        items: list[Item] = []
        why_not = self._why_no_run(volume, origin)
        if why_not is not None:
            return self.ignore(key, why_not)
        candidate = self._candidates.get(key)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                items += self.ignore(next(iter(self._candidates)), _TOO_MANY)
            candidate = self._candidates[key] = Candidate(series, origin)
        if position in candidate.volumes:
            return [
                *items,
                TransportWarning("volume.doubled", "dropped a repeated volume of a run that has not begun"),
            ]
        candidate.volumes[position] = volume
        candidate.stated_s += [volume.tr_s] if origin.states_tr else []
        # A late volume of the run before may arrive in between; a series that keeps pace with the run is no successor.
        running_count = -1 if self._running is None else self._running.count
        candidate.streak = candidate.streak + 1 if running_count == candidate.running_count else 1
        candidate.running_count = running_count
        candidate.overlaps = candidate.overlaps or self._overlaps(volume, origin)
        if candidate.overlaps and not self._is_silent(candidate, now_s):
            if candidate.streak == len(candidate.volumes) <= MAX_HELD:
                return items
            return items + self.ignore(key, _OVERLAPS)
        if origin.is_run or candidate.streak >= self._streak(volume, now_s):
            not_yet = self._waits_for_echo(key, candidate)
            if not_yet is None and not candidate.must_wait(self._expected.tr_s):
                return items + self._begin(key, now_s)
            items += not_yet or []
        if len(candidate.volumes) >= MAX_UNDECIDED and key in self._candidates:
            return items + self.ignore(key, _PARALLEL, "series.parallel")
        return items

    def _why_no_run(self, volume: Volume, origin: Origin) -> str | None:
        """Why this series is not the next run; None if it may be."""
        if origin.is_derived and self._last_derived is False:
            return "the scanner computed it from other images, unlike the run"
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

    def _is_silent(self, candidate: Candidate, now_s: float) -> bool:
        """Whether the running series has brought nothing for so long that it is over."""
        tr_s = next(iter(candidate.volumes.values())).tr_s
        return self._running is None or now_s - self._running.came_s > SILENT_TRS * tr_s

    def _streak(self, volume: Volume, now_s: float) -> int:
        """How many volumes in a row make another run."""
        running = self._running
        if running is None or volume.shape == running.shape or now_s - running.came_s > SILENT_TRS * volume.tr_s:
            return 2
        return OTHER_SHAPE_STREAK

    def _waits_for_echo(self, key: str, candidate: Candidate) -> list[Item] | None:
        """None if this echo is the run; otherwise warnings, and the run waits for the right echo."""
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

    def _begin(self, key: str, now_s: float) -> list[Item]:
        candidate = self._candidates[key]
        family, echo, volumes = candidate.origin.family, candidate.origin.echo, candidate.volumes
        stride = candidate.stride(self._expected.tr_s)
        earliest = volumes[min(volumes)]
        by_index = {position // stride: volume for position, volume in volumes.items()}
        try:
            timing = LiveTiming(self._next_run, by_index, usual_tr(candidate.stated_s), self._expected.tr_s)
        except BadVolume as error:
            if self._expected.tr_s is not None:  # the declared TR also chooses the series
                return self.ignore(key, str(error))
            return self.ignore(key, str(error), error.code, lost=True)
        if not timing.has_clock and (why_not := self._expected.why_not(earliest.shape, earliest.tr_s)) is not None:
            return self.ignore(key, why_not)
        del self._candidates[key]
        items = [*self._end(), *self._ignore_others(family, echo)]
        first = min(volumes) // stride
        run, self._next_run = self._next_run, self._next_run + 1
        if stride > (1 if family is None else family.stride):
            text = f"run {run}: numbers go up by {stride} per volume, but the clock by one TR: no volume is missing"
            items.append(TransportWarning("run.numbering", text, None, run))
        if first > LATEST_START:
            text = f"run {run}: the first volume is numbered {first + 1}; check that none before it is missing"
            items.append(TransportWarning("run.numbering", text, None, run))
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
        items += timing.warnings
        for position, volume in volumes.items():
            if self._running is running:
                items += self._more(running, position, volume, now_s)
        return items

    def _ignore_others(self, family: Family | None, echo: Echo | None) -> list[Item]:
        """Ignores the other candidates and echoes when a run begins, with warnings."""
        items: list[Item] = []
        if family is not None and echo is not None and self._expected.echo != "combine":
            family.begun = echo
            family.named.update(family.echoes)
            if len(family.echoes) > 1:
                items.append(TransportWarning("series.echoes", choice_note(echo, family.echoes)))
        for other, one in list(self._candidates.items()):
            if family is not None and one.origin.family is family:
                del self._candidates[other]
                remember(self._ignored, other, None)
            else:
                items += self.ignore(other, "it had no second volume")
        return items

    def _end(self) -> list[Item]:
        if self._running is None:
            return []
        running, self._running = self._running, None
        over = _EndedRun(running.order.run, running.first, running.stride, running.marks)
        self._ended.pop(running.series, None)
        remember(self._ended, running.series, over)
        self._late_reported.pop(running.series, None)
        for older in list(self._ended.values())[-MAX_MARKED_RUNS - 1 : -MAX_MARKED_RUNS]:
            older.marks.clear()
        return list(self._checked(running.order.end()))

    def _checked(self, items: list[Item]) -> Iterator[Item]:
        n_volumes = self._expected.n_volumes
        for item in items:
            if isinstance(item, RunEnded) and n_volumes is not None and item.n_volumes < n_volumes:
                text = f"run {item.run}: ended after {item.n_volumes} of the {n_volumes} volumes that n announces"
                yield TransportWarning("run.short", text, None, item.run, lost=True)
            yield item
