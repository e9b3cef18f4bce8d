"""Live volumes on their way to the service: the state of the session's runs, and what is reported of them.

Knows nothing of transports, of the command line or of decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mindsight.client import planned
from mindsight.client.console import Console, RunState
from mindsight.client.events import declare_events, report_unmeasured
from mindsight.client.report import Report
from mindsight.client.send import Sent
from mindsight.client.trail import Trail
from mindsight.errors import BadVolume, Conflict, MindsightError
from mindsight.events import DeclaredEvent
from mindsight.scanner.transports import FAILED, Item, RunEnded, TransportWarning
from mindsight.volume import Volume

MAX_WARNINGS = 500  # that one process sends to the service; all of them are reported here


class LiveStream:
    """Sends what a transport delivers. Runs start and end by themselves; faults are reported and never stop the stream.

    A process that resumes after another was stopped sends nothing twice: the service knows how far each run is.

    first_run : smallest run number to use
    before : the session's runs as the service has them
    events : of the first run that this process starts; the stimulus program sends those of later runs
    trail : of a folder or of stored objects, which can be read again; None for volumes that are sent only once
    clock : seconds, monotonic
    n_volumes : length of each run if it is planned
    """

    def __init__(
        self,
        console: Console,
        *,
        first_run: int,
        before: Sequence[RunState],
        events: Sequence[DeclaredEvent],
        task: str,
        trail: Trail | None,
        clock: Callable[[], float],
        report: Report,
        n_volumes: int | None = None,
    ) -> None:
        self._console = console
        self._n_volumes = n_volumes
        self._events = events
        self._events_of: int | None = None  # number of their run
        self._task = task
        self._trail = trail
        self._clock = clock
        self._report = report
        self._before = {state.run: state for state in before if state.run >= first_run}
        self._last_run = max(self._before, default=first_run - 1)
        self._may_resume = True  # the first run that comes may belong to a run that was left open
        self._early: list[TransportWarning] = []  # a run cannot be declared before its first volume gives its TR
        self._last: Volume | None = None  # first volume of the run before
        self._coming = 0  # the transport's number of the current run
        self._run = 0  # the session's number of it
        self._runs: dict[int, int] = {}  # transport's number -> session's number
        self._is_over = False
        self._next_index = 0  # the service has the volumes before it
        self._n_sent = self._n_missing = self._n_warnings = self._n_lost = 0

    def send(self, items: Iterable[Item]) -> Sent:
        """Send all items. Raises the errors of the service, as ``send_run``, and the error that ended the transport."""
        began_s = self._clock()
        failed: TransportWarning | None = None
        for item in items:
            if isinstance(item, Volume):
                self._take(item)
            elif isinstance(item, TransportWarning):
                self._n_lost += item.lost
                failed = item if item.code == FAILED else failed
                self._forward(item)
            else:
                self._end(item)
        if failed is not None:
            raise MindsightError(failed.text, code=failed.code)
        return Sent(self._n_sent, self._n_missing, self._clock() - began_s, self._n_lost)

    def _take(self, volume: Volume) -> None:
        if volume.run != self._coming:
            self._begin(volume)
        if not self._is_over and volume.index >= self._next_index:
            try:
                self._console.send(replace(volume, run=self._run))
            except BadVolume as error:  # the service refuses this volume; it may accept the next one
                text = f"run {volume.run}: volume {volume.index}: {error}"
                self._forward(TransportWarning(error.code, text, volume.index, volume.run, missing=True))
                return
            except Conflict as error:
                if error.code != "run.ended":
                    raise
                self._is_over = True
                text = f"run {self._run} was ended on the dashboard: its volumes from {volume.index} on are left out"
                self._warn(error.code, text, self._run, volume.index)
                return
            self._n_sent += 1
            self._report.progress(self._n_sent, self._n_missing)

    def _begin(self, first: Volume) -> None:
        self._coming = first.run
        again = self._trail.run_of(first) if self._trail is not None else None
        self._run = self._runs[first.run] = run = self._number(first) if again is None else again
        before = self._before.get(run)
        self._is_over = before is not None and before.ended
        if not self._is_over:
            self._declare(first, is_new=again is None)
        self._last = first
        early, self._early = self._early, []
        for trouble in early:
            self._forward(trouble)

    def _declare(self, first: Volume, *, is_new: bool) -> None:
        run, self._next_index = planned.start_run(
            self._console, self._run, task=self._task, tr_s=first.tr_s, n_volumes=self._n_volumes
        )
        if run != self._run:
            self._run = self._runs[first.run] = run
            self._last_run = max(run, self._last_run)
        if self._trail is not None and is_new:
            self._trail.save_run(first, run)
        if self._events_of in (None, run):
            self._events_of = run
            declare_events(self._report, self._console, run, self._events)
        if self._next_index:
            self._report.info(f"run {run} resumes at volume {self._next_index}; the service has those before it")
        else:
            self._report.info(f"run {run} has begun: {_sides(first)} voxels, TR {first.tr_s:g} s")
        if self._last is not None and self._last.shape != first.shape:
            text = f"run {run} has volumes of {_sides(first)} voxels, the run before {_sides(self._last)}"
            self._warn("run.shape", f"{text}; check that this is the sequence of the calibration", run, None)

    def _number(self, first: Volume) -> int:
        """Number of a run that no earlier process has started, or of the one that it left open and this continues."""
        before, may_resume = self._before.get(self._last_run), self._may_resume
        self._may_resume = False
        if before is not None and not before.ended:
            # the trail would know a run that is read again, unless none of its volumes was sent
            is_same = before.next_index == 0 or (self._trail is None and first.index >= before.next_index)
            if may_resume and is_same:
                return self._last_run
            self._console.end_run(self._last_run)  # it was left open, and the scanner has started another run since
            self._before[self._last_run] = replace(before, ended=True)
        self._last_run += 1
        return self._last_run

    def _forward(self, trouble: TransportWarning) -> None:
        """Report what the transport has reported, with the session's run number; declare a missing volume."""
        if trouble.run is not None and trouble.run > self._coming:
            self._early.append(trouble)
            return
        run, text = None if trouble.run is None else self._runs.get(trouble.run), trouble.text
        if run is not None:
            text = text.replace(f"run {trouble.run}:", f"run {run}:")
        if trouble.missing:
            assert run is not None
            assert trouble.index is not None
            if self._is_over or trouble.index < self._next_index:
                return
            self._console.mark_missing(run, trouble.index, text[:200])  # which the service reports
            self._n_missing += 1
        self._warn(trouble.code, text, run, trouble.index, to_service=not trouble.missing)

    def _warn(self, code: str, text: str, run: int | None, index: int | None, *, to_service: bool = True) -> None:
        self._report.warning(code, text)
        if to_service and self._n_warnings < MAX_WARNINGS:
            self._n_warnings += 1
            self._console.warn(code, text, run=run, index=None if index is None or index < 0 else index)

    def _end(self, ended: RunEnded) -> None:
        if ended.run != self._coming:  # none of its volumes came, so it was never declared
            self._coming, early, self._early = ended.run, self._early, []
            for trouble in early:
                self._warn(trouble.code, trouble.text, None, None)
        elif not self._is_over:
            self._console.end_run(self._run)
            self._report.info(f"run {self._run} has ended after {ended.n_volumes} volumes")
            if self._run == self._events_of and self._last is not None:
                report_unmeasured(self._report, self._run, self._events, ended.n_volumes, self._last.tr_s)


def _sides(volume: Volume) -> str:
    return "×".join(map(str, volume.shape))
