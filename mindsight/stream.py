"""The console's program: a series of volumes on its way to the service, in order, with nothing dropped.

Knows nothing of decoding. A volume that is not in the series is declared missing. One that cannot be read stops the
stream with an error: what was acknowledged stays, and the same command again, once the file is whole, goes on there.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mindsight.client import Console
from mindsight.errors import BadRequest
from mindsight.events import RunEvent, parse_events_tsv
from mindsight.scanner import RecordedRun, open_run
from mindsight.scanner.transports import Clock, Item, Trouble, open_transport
from mindsight.settings import Settings
from mindsight.supervisor import gateway_url
from mindsight.volume import Volume


@dataclass(frozen=True, slots=True)
class Sent:
    """What a stream came to: volumes acknowledged, volumes declared missing, seconds it took."""

    n_volumes: int
    n_missing: int
    seconds: float


class Progress:
    """One line that is written over where somebody watches, and a line per 50 volumes where not."""

    def __init__(self, output: TextIO, total: int | None) -> None:
        self._output = output
        self._total = total

    def show(self, done: int, missing: int, text: str = "") -> None:
        of = "" if self._total is None else f"/{self._total}"
        lost = f", {missing} missing" if missing else ""
        line = f"volume {done}{of} acknowledged{lost}{text}"
        if self._output.isatty():
            print(f"\r\x1b[2K{line}", end="", file=self._output, flush=True)
        elif done % 50 == 0 or done == self._total:
            print(line, file=self._output, flush=True)

    def end(self) -> None:
        if self._output.isatty():
            print(file=self._output)


def send_run(
    recorded: RecordedRun,
    console: Console,
    *,
    events: list[RunEvent],
    task: str,
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    output: TextIO,
) -> Sent:
    """Declare a run and its events, send its volumes at ``speed`` times their own pace, end it.

    Raises BadVolume for a volume that cannot be read, what the service says, and ServiceUnavailable where it is away
    for too long: then what was not acknowledged lies in the console's spool, and the same command again sends it.
    """
    run = recorded.run
    console.start_run(run, task=task, tr_s=recorded.tr_s, n_volumes=recorded.n_volumes)
    declare_events(console, run, events)
    progress = Progress(output, recorded.n_volumes)
    began_s, n_sent, n_missing = clock(), 0, 0
    for volume in recorded.volumes():
        while n_sent + n_missing < volume.index:
            console.mark_missing(run, n_sent + n_missing, "not in the series")
            n_missing += 1
        wait_s = began_s + volume.index * recorded.tr_s / speed - clock()
        if wait_s > 0.0:
            sleep(wait_s)
        console.send(volume)
        n_sent += 1
        progress.show(n_sent, n_missing)
    progress.end()
    console.end_run(run)
    return Sent(n_sent, n_missing, clock() - began_s)


def send_live(
    items: Iterable[Item],
    console: Console,
    *,
    events: list[RunEvent],
    first_run: int,
    task: str,
    clock: Callable[[], float],
    output: TextIO,
) -> Sent:
    """Send what comes from a scanner until it ends: runs find themselves, what is wrong is said, nothing stops them.

    ``events`` are those of ``first_run``; later runs' come from whoever shows the pictures.

    Raises what the service says, as ``send_run``.
    """
    progress = Progress(output, None)
    began_s, n_sent, n_missing, current = clock(), 0, 0, 0
    early: list[Trouble] = []  # a run cannot be declared before a volume of it says what its TR is
    for item in items:
        if isinstance(item, Volume):
            if item.run != current:
                current = item.run
                console.start_run(current, task=task, tr_s=item.tr_s)
                declare_events(console, current, events if current == first_run else [])
                for trouble in early:
                    _mark_missing(console, trouble)
                n_missing, early = n_missing + len(early), []
            console.send(item)
            n_sent += 1
            progress.show(n_sent, n_missing)
        elif isinstance(item, Trouble):
            print(f"{item.text} [{item.code}]", file=sys.stderr, flush=True)
            if item.missing and item.run == current:
                _mark_missing(console, item)
                n_missing += 1
            elif item.missing:
                early.append(item)
        else:
            console.end_run(item.run)
            print(f"run {item.run} has ended after {item.n_volumes} volumes", file=output, flush=True)
    progress.end()
    return Sent(n_sent, n_missing, clock() - began_s)


def _mark_missing(console: Console, trouble: Trouble) -> None:
    assert trouble.run is not None
    assert trouble.index is not None
    console.mark_missing(trouble.run, trouble.index, trouble.text[:200])


def declare_events(console: Console, run: int, events: list[RunEvent]) -> None:
    """Every event with a label or a picture is a trial to be decoded, numbered from 1."""
    numbers = itertools.count(1)
    for event in events:
        trial = next(numbers) if event.label is not None or event.stim_file is not None else None
        what = {} if event.label is None else {"label": event.label}
        console.add_event(run, onset_s=event.onset_s, duration_s=event.duration_s, trial=trial, **what)


def is_live(source: str) -> bool:
    """Whether a source is a transport's (``watch:/folder``, ``cstore://...``) and not a folder or file."""
    return source.startswith("watch:") or "://" in source


def stream_source(
    source: str,
    session: str,
    *,
    to: str,
    key: str,
    run: int,
    task: str,
    events: Path | None,
    spool: Path | None,
    speed: float,
) -> None:
    """The commands ``mindsight stream`` and ``mindsight replay --session``."""
    if not key:
        raise BadRequest("expected a key: set MINDSIGHT_KEY, or pass --key", code="cli.key")
    settings = Settings()
    given = [] if events is None else parse_events_tsv(events.read_text(encoding="utf-8"))
    address = to or gateway_url(settings)
    with Console(address, key, session=session, spool_dir=spool or settings.data_dir / "spool") as console:
        if is_live(source):
            with open_transport(source, clock=Clock(time.time, time.monotonic), run=run) as transport:
                print("listening; Ctrl-C ends it", flush=True)
                sent = send_live(
                    transport.items(),
                    console,
                    events=given,
                    first_run=run,
                    task=task,
                    clock=time.monotonic,
                    output=sys.stdout,
                )
        else:
            recorded = open_run(source, run)
            sent = send_run(
                recorded,
                console,
                events=given if events is not None else recorded.events,
                task=task,
                speed=speed,
                clock=time.monotonic,
                sleep=time.sleep,
                output=sys.stdout,
            )
    print(f"{sent.n_volumes} volumes acknowledged, {sent.n_missing} missing, in {sent.seconds:.1f} s")
