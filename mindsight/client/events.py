"""A run's events on their way to the service. A fault in them never stops a volume; it is reported once.

Knows nothing of where events come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from mindsight.client.console import Console
from mindsight.client.report import Report
from mindsight.errors import BadRequest, Conflict, Diverged
from mindsight.events import DeclaredEvent, Note, trials_after, unmeasured

AT_ONCE = 1000  # events of one request


def report_here(report: Report, notes: Iterable[Note]) -> None:
    """Report notes on this machine only."""
    for note in notes:
        report.warning(note.code, note.text)


def report_everywhere(report: Report, console: Console, notes: Sequence[Note], run: int | None = None) -> None:
    """Report notes on this machine and in the session's log, which everyone who watches the session sees."""
    report_here(report, notes)
    for note in notes:
        console.warn(note.code, note.text, run=run, level=note.level)


def declare_events(report: Report, console: Console, run: int, events: Sequence[DeclaredEvent]) -> None:
    """Send all events of a run. A repeat changes nothing; what the service refuses is reported."""
    try:
        for start in range(0, len(events), AT_ONCE):
            console.add_events(run, [asdict(event) for event in events[start : start + AT_ONCE]])
    except (BadRequest, Conflict, Diverged) as error:
        text = f"the service refused events of run {run}; its volumes are sent anyway: {error} [{error.code}]"
        report_everywhere(report, console, [Note("events.refused", text)], run)


def report_unmeasured(report: Report, run: int, events: Sequence[DeclaredEvent], n_volumes: int, tr_s: float) -> None:
    """Report the trials after the last volume. Only here: the service finds them by itself."""
    report_here(report, unmeasured(run, trials_after(events, n_volumes, tr_s)))
