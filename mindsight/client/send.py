"""A recorded run on its way to the service, at a chosen pace. Knows nothing of files: a recorded run is handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindsight.client.console import Console
from mindsight.client.events import declare_events, report_unmeasured
from mindsight.client.report import Report
from mindsight.errors import BadRequest, BadVolume, Conflict, Diverged
from mindsight.events import DeclaredEvent
from mindsight.scanner import RecordedRun


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of a stream: volumes acknowledged, volumes declared missing, seconds it took.

    n_lost : things that arrived and are in no volume: unreadable files and objects, slices of broken volumes
    """

    n_volumes: int
    n_missing: int
    seconds: float
    n_lost: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the service has everything that arrived or should have arrived."""
        return self.n_missing == 0 and self.n_lost == 0


def send_run(
    recorded: RecordedRun,
    console: Console,
    *,
    events: Sequence[DeclaredEvent],
    task: str,
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    report: Report,
) -> Sent:
    """Declare a run and its events, send its volumes, end it.

    speed : times the run's own pace; infinity for as fast as possible

    An absent or unreadable volume is declared missing. Raises the errors of the service, and ServiceUnavailable when it
    does not answer within the console's deadline: unacknowledged volumes then lie in the console's spool, and the same
    command sends them.
    """
    run = recorded.run
    motion = None if recorded.motion_T6 is None else recorded.motion_order or "unknown"
    console.start_run(run, task=task, tr_s=recorded.tr_s, n_volumes=recorded.n_volumes, motion=motion)
    declare_events(report, console, run, events)
    began_s, n_sent, n_missing = clock(), 0, 0

    def skip_to(index: int) -> int:
        for missing in range(n_sent + n_missing, index):
            console.mark_missing(run, missing, "not in the series, or unreadable")
        return index - n_sent

    for volume in recorded.volumes():
        n_missing = skip_to(volume.index)
        wait_s = began_s + volume.index * recorded.tr_s / speed - clock()
        if wait_s > 0.0:
            sleep(wait_s)
        console.send(volume)
        n_sent += 1
        report.progress(n_sent, n_missing, recorded.n_volumes)
    n_missing = skip_to(recorded.n_volumes)
    console.end_run(run)
    report_unmeasured(report, run, events, recorded.n_volumes, recorded.tr_s)
    return Sent(n_sent, n_missing, clock() - began_s)


def send_waiting(console: Console, report: Report) -> None:
    """Send what an interrupted process left in the spool. A volume that the service refuses is set aside."""
    while console.waiting():
        try:
            console.resume()
        except (BadVolume, BadRequest, Conflict, Diverged) as error:
            report.warning(error.code, f"a waiting volume was refused and set aside in the spool: {error}")
