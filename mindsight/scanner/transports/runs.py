"""Volumes of several series, mixed → runs, one after the other: which series is a run, and when one begins and ends.

Knows nothing of files, headers or sockets. Time is passed in.

A series is a run from its second volume on: a scout, an anatomical, a single-band reference has only one. What came
first is held until then, so the first volume of a run is one TR late and the others are not; unless what it came from
says that it is a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mindsight.scanner.transports.contract import Expected, Item, RunEnded, Trouble
from mindsight.scanner.transports.order import Sequencer
from mindsight.volume import Volume

T = TypeVar("T")

MAX_CANDIDATES = 8
MAX_UNDECIDED = 4
MAX_REMEMBERED = 10_000
LATEST_START = 1000


@dataclass(slots=True)
class _Candidate:
    """A series that may be a run. streak : its volumes since the running series last brought one."""

    volumes: dict[int, Volume] = field(default_factory=dict)
    streak: int = 0
    running_count: int = -1


@dataclass(slots=True)
class _Running:
    series: str
    first: int
    shape: tuple[int, int, int]
    has_clock: bool
    slice_times_s: NDArray[np.float64] | None
    order: Sequencer
    count: int = 0


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
        self._ended: dict[str, int] = {}
        self._told_after: dict[str, None] = {}

    def is_over(self, series: str) -> bool:
        """Nothing of this series is wanted any more."""
        return series in self._ignored or series in self._ended

    def add(self, series: str, position: int, volume: Volume, now_s: float, *, is_run: bool = False) -> list[Item]:
        """One volume.

        series : what is the same for the volumes of one series, and for no other
        position : its place in the series as the scanner counts, the first being 0
        is_run : the series is known to be one, and no second volume is waited for
        """
        if series in self._ended:
            run = self._ended[series]
            if series in self._told_after:
                return []
            _remember(self._told_after, series, None)
            return [Trouble("volume.after_end", f"run {run}: volumes came after its end; dropped", None, run)]
        if series in self._ignored:
            return []
        if self._running is not None and self._running.series == series:
            return self._more(self._running, position, volume, now_s)
        why_not = self._expected.why_not(volume.shape, volume.tr_s)
        if why_not is not None:
            return self.ignore(series, why_not)
        if is_run and self._running is not None:  # what is whole in a file ends by itself: another one is coming now
            return self.ignore(series, "it came whole while another run is being read", "series.parallel")
        return self._consider(series, position, volume, now_s, is_run)

    def ignore(self, series: str, why: str, code: str = "series.ignored") -> list[Item]:
        """This series is no run; said once."""
        if self.is_over(series):
            return []
        self._candidates.pop(series, None)
        _remember(self._ignored, series, None)
        return [Trouble(code, f"a series was passed over: {why}")]

    def end(self, series: str) -> list[Item]:
        """No more of this series comes."""
        if self._running is not None and self._running.series == series:
            return self._end()
        return self.ignore(series, "it had no second volume") if series in self._candidates else []

    def tick(self, now_s: float) -> list[Item]:
        return [] if self._running is None else self._running.order.tick(now_s)

    def finish(self) -> list[Item]:
        """Nothing more comes."""
        told = self._end()
        for series in list(self._candidates):
            told += self.ignore(series, "it had no second volume")
        return told

    def _more(self, running: _Running, position: int, volume: Volume, now_s: float) -> list[Item]:
        run, index = running.order.run, position - running.first
        if index < 0:
            text = f"run {run}: a volume is numbered before the first of its run; dropped"
            return [Trouble("volume.number", text, None, run)]
        if volume.shape != running.shape:
            text = f"run {run}: volume {index}: expected the shape {running.shape} of the first, got {volume.shape}"
            return [Trouble("volume.shape_mismatch", text, index, run)]
        running.count += 1
        acquired_s = volume.acquired_s if running.has_clock else None
        times_s = running.slice_times_s if volume.slice_times_s is None else volume.slice_times_s
        volume = replace(volume, run=run, index=index, acquired_s=acquired_s, slice_times_s=times_s)
        told = running.order.put(volume, now_s)
        n_volumes = self._expected.n_volumes
        if n_volumes is not None and running.order.next_index >= n_volumes:
            told += self._end()
        return told

    def _consider(self, series: str, position: int, volume: Volume, now_s: float, is_run: bool) -> list[Item]:
        told: list[Item] = []
        candidate = self._candidates.get(series)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                told += self.ignore(next(iter(self._candidates)), "it had no second volume for long")
            candidate = self._candidates[series] = _Candidate()
        if position in candidate.volumes:
            return [
                *told,
                Trouble("volume.doubled", "a volume of a run not yet begun came twice; dropped"),
            ]
        candidate.volumes[position] = volume
        # A late volume of the run before may come in between; a series that keeps pace with the run is no successor.
        running_count = -1 if self._running is None else self._running.count
        candidate.streak = candidate.streak + 1 if running_count == candidate.running_count else 1
        candidate.running_count = running_count
        if is_run or candidate.streak >= 2:
            return told + self._begin(series, now_s)
        if len(candidate.volumes) >= MAX_UNDECIDED:
            return told + self.ignore(series, "it runs beside the series that is being read", "series.parallel")
        return told

    def _begin(self, series: str, now_s: float) -> list[Item]:
        volumes = self._candidates.pop(series).volumes
        told = self._end()
        for other in list(self._candidates):
            told += self.ignore(other, "it had no second volume")
        first = min(volumes)
        run, self._next_run = self._next_run, self._next_run + 1
        if first > LATEST_START:
            text = f"run {run}: the first volume that came is numbered {first + 1}; counting from there"
            told.append(Trouble("run.numbering", text, None, run))
        earliest, *following = (volumes[position] for position in sorted(volumes)[:2])
        self._running = running = _Running(
            series=series,
            first=first if first < 0 or first > LATEST_START else 0,
            shape=earliest.shape,
            # GE states when the series began, in every volume: that is no clock.
            has_clock=all(earliest.acquired_s != one.acquired_s for one in following),
            # GE's slice clock starts within the first volume, which so has no times of its own.
            slice_times_s=next((v.slice_times_s for v in volumes.values() if v.slice_times_s is not None), None),
            order=Sequencer(run, self._late_s),
        )
        for position, volume in volumes.items():
            if self._running is running:
                told += self._more(running, position, volume, now_s)
        return told

    def _end(self) -> list[Item]:
        if self._running is None:
            return []
        running, self._running = self._running, None
        _remember(self._ended, running.series, running.order.run)
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
