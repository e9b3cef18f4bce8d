"""Streams to the service: a recorded series, or what a scanner sends now, in order and with nothing dropped.

Knows nothing of decoding. An absent or unreadable volume is declared missing and reported; the run continues.
Acknowledged volumes stay with the service, and the same command resumes after them.
"""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindsight.client import Console
from mindsight.client.address import gateway_url
from mindsight.client.events import report_everywhere
from mindsight.client.live import LiveStream
from mindsight.client.report import Report
from mindsight.client.send import Sent, send_run, send_waiting
from mindsight.client.trail import RECEIVED, Trail, newest_ns
from mindsight.errors import BadRequest, BusUnavailable, ServiceUnavailable, StorageFull
from mindsight.events import DeclaredEvent, EventsTable, declare
from mindsight.scanner.beside import read_events_file
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.formats.files import OnBad
from mindsight.scanner.recording import keep, open_run
from mindsight.scanner.transports import Clock, Transport, open_transport, planned_volumes
from mindsight.settings import read_settings

FIRST_ANSWER_S = 10.0  # for a service that is just being started
_TASK = re.compile(r"[A-Za-z0-9]{1,64}")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where volumes go.

    session : id of an open session
    key : API key
    url : the gateway's address; empty: the service on this machine's data folder
    spool : folder for unacknowledged volumes; None: in the data folder
    """

    session: str
    key: str
    url: str = ""
    spool: Path | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is declared with a run.

    run : its number in the session; of a live source, the smallest number to use
    task : name of the task, letters and digits
    events : a BIDS ``events.tsv``; None: the table beside a recorded run, none for a live one
    """

    run: int = 1
    task: str = "view"
    events: Path | None = None

    def __post_init__(self) -> None:
        if not _TASK.fullmatch(self.task):  # otherwise it is refused only after the scan has started
            raise BadRequest("expected --task to be letters and digits, as in BIDS names", code="cli.task")


def is_live(source: str) -> bool:
    """Whether a source is a transport's (``watch:/folder``, ``cstore://...``) and not a folder or file."""
    return source.startswith("watch:") or "://" in source


def stream_recorded(
    path: Path,
    to: Destination,
    options: RunOptions,
    report: Report,
    *,
    speed: float = math.inf,
    echo: EchoChoice = None,
) -> Sent:
    """Send a series or a recorded run.

    speed : times its own pace; infinity for as fast as possible
    echo : which of several echoes, or all combined

    Raises BadRequest for a wrong table of events, what reading the series raises, and the errors of the service.
    """
    table = None if options.events is None else _read_events(options.events)
    with _connected(to, report) as (console, _):
        recorded = open_run(path, options.run, events=table, on_bad=_skipping(report), echo=echo)
        declared = declare(recorded.events)
        report_everywhere(report, console, (*recorded.notes, *declared.notes), options.run)
        sent = send_run(
            recorded,
            console,
            events=declared.events,
            task=options.task,
            speed=speed,
            clock=time.monotonic,
            sleep=time.sleep,
            report=report,
        )
    _summarise(sent, report)
    return sent


def stream_live(
    source: str,
    to: Destination,
    options: RunOptions,
    report: Report,
    *,
    triggers: str | None = None,
    record: Path | None = None,
    echo: EchoChoice = None,
) -> Sent:
    """Send what a scanner sends, until the source ends or Ctrl-C.

    source : a transport's address, see ``open_transport``
    triggers : where to listen for trigger pulses
    record : folder in which the volumes are kept as well
    echo : the same as ``echo=`` in the source

    Raises BadRequest (``run.length_unknown`` if the bundle needs the length of runs and the source does not give
    it), what opening the transport raises, and the errors of the service.
    """
    if echo is not None and not re.search(r"[?&]echo=", source):
        source = _with_option(source, f"echo={echo}")
    table = None if options.events is None else _read_events(options.events)  # checked before listening
    with _connected(to, report) as (console, spool):
        if planned_volumes(source) is None and console.needs_n_volumes():
            text = "the session's bundle was calibrated with a drift basis over the planned run"
            raise BadRequest(f"expected n=, the volumes of each run, in the source: {text}", code="run.length_unknown")
        declared = declare(() if table is None else table.events)
        report_everywhere(report, console, (*(() if table is None else table.notes), *declared.notes))
        sent = _send_live(source, console, spool, declared.events, options, report, triggers, record)
    _summarise(sent, report)
    return sent


@contextlib.contextmanager
def _connected(to: Destination, report: Report) -> Iterator[tuple[Console, Path]]:
    """A console of the session, and the session's folder in its spool.

    A wrong key, address or session is refused at once, before anything is read or listened to.
    """
    if not to.key:
        raise BadRequest("expected a key: set MINDSIGHT_KEY, or pass --key", code="cli.key")
    settings = read_settings()
    url, spool = to.url or gateway_url(settings.data_dir), to.spool or settings.data_dir / "spool"
    with Console(url, to.key, session=to.session, deadline_s=FIRST_ANSWER_S) as console:
        console.runs()
    with Console(url, to.key, session=to.session, spool_dir=spool) as console:
        try:
            yield console, spool / to.session
        except (ServiceUnavailable, BusUnavailable, StorageFull) as error:
            report.warning(error.code, "the stream stops; no acknowledged volume is lost: repeat the command to resume")
            raise


def _send_live(
    source: str,
    console: Console,
    spool: Path,
    events: Sequence[DeclaredEvent],
    options: RunOptions,
    report: Report,
    triggers: str | None,
    record: Path | None,
) -> Sent:
    send_waiting(console, report)
    trail, opened = Trail.of(source, spool, options.run), source
    if trail is not None and trail.is_followed and source.startswith("watch:") and "existing=1" not in source:
        opened = _with_option(source, f"since={trail.newest_ns}")
    live = LiveStream(
        console,
        first_run=options.run,
        before=console.runs(),
        events=events,
        task=options.task,
        trail=trail,
        clock=time.monotonic,
        report=report,
        n_volumes=planned_volumes(source),
    )
    with _listening(opened, triggers, spool / RECEIVED) as transport, _ending_on_interrupt(transport):
        if trail is not None:
            trail.save()
        report.info("listening; Ctrl-C ends the run and the stream")
        items = transport.items()
        sent = live.send(items if record is None else keep(items, record))
        if trail is not None:  # it was not killed: all files that are there now have been dealt with
            trail.newest_ns = max(trail.newest_ns, newest_ns(source))
            trail.save()
    return sent


@contextlib.contextmanager
def _ending_on_interrupt(transport: Transport) -> Iterator[None]:
    """The first Ctrl-C closes the transport, so that the run ends; the second one interrupts."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=transport.close, daemon=True).start()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _listening(source: str, triggers: str | None, spool: Path) -> Transport:
    try:
        return open_transport(source, clock=Clock(time.time, time.monotonic), triggers=triggers, spool=spool)
    except BadRequest as error:
        if error.code != "transport.address":
            raise
        hint = "another stream or program may hold this port: stop it, or name another port"
        raise BadRequest(f"{error}; {hint}", code=error.code) from None


def _with_option(source: str, option: str) -> str:
    return f"{source}{'&' if '?' in source else '?'}{option}"


def _skipping(report: Report) -> OnBad:
    """Reports an unreadable volume, which is left out."""
    return lambda error: report.warning(error.code, f"skipped: {error}")


def _read_events(path: Path) -> EventsTable:
    try:
        return read_events_file(path)
    except BadRequest as error:
        if error.code != "run.unreadable":
            raise
        text = "expected a BIDS events.tsv with --events, got no readable file; check its path"
        raise BadRequest(text, code="events.unreadable") from None


def _summarise(sent: Sent, report: Report) -> None:
    lost = f", {sent.n_lost} objects left out" if sent.n_lost else ""
    report.info(f"{sent.n_volumes} volumes acknowledged, {sent.n_missing} missing{lost}, in {sent.seconds:.1f} s")
