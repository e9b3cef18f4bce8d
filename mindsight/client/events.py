"""A run's events on their way to the service. Nothing that is wrong with them stops a volume: it is said, once.

Knows nothing of where they come from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from mindsight.client.console import Console
from mindsight.errors import BadRequest, Conflict, Diverged
from mindsight.events import DeclaredEvent, Note, trials_after, unmeasured

AT_ONCE = 1000


def say(notes: Iterable[Note]) -> None:
    """To the person at this machine."""
    for note in notes:
        print(f"{note.text} [{note.code}]", file=sys.stderr, flush=True)


def tell(console: Console, notes: Sequence[Note], run: int | None = None) -> None:
    """To the person here, and to everyone who watches the session."""
    say(notes)
    for note in notes:
        console.warn(note.code, note.text, run=run, level=note.level)


def declare_events(console: Console, run: int, events: Sequence[DeclaredEvent]) -> None:
    """All of a run's events; the same once more changes nothing. What the service refuses is said."""
    try:
        for start in range(0, len(events), AT_ONCE):
            console.add_events(run, [asdict(event) for event in events[start : start + AT_ONCE]])
    except (BadRequest, Conflict, Diverged) as error:
        text = f"the service refused events of run {run}; its volumes are sent all the same: {error} [{error.code}]"
        tell(console, [Note("events.refused", text)], run)


def say_unmeasured(run: int, events: Sequence[DeclaredEvent], n_volumes: int, tr_s: float) -> None:
    """The trials that a run of so many volumes did not reach; the service finds them by itself."""
    say(unmeasured(run, trials_after(events, n_volumes, tr_s)))
