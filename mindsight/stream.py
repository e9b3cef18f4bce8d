"""The console's program: a series of volumes on its way to the service, in order, with nothing dropped.

Knows nothing of decoding. A volume that is not in the series is declared missing, and so is one that cannot be read,
which is said; the run goes on. What was acknowledged stays, and the same command again goes on there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from mindsight.client import Console
from mindsight.client.console import RunState
from mindsight.client.events import declare_events, say_unmeasured, tell
from mindsight.errors import (
    BadRequest,
    BadVolume,
    BusUnavailable,
    Conflict,
    Diverged,
    MindsightError,
    ServiceUnavailable,
    StorageFull,
)
from mindsight.events import DeclaredEvent, EventsTable, declare
from mindsight.files.digest import sha256_of
from mindsight.files.durable import write_durably
from mindsight.operations.supervisor import gateway_url
from mindsight.scanner import RecordedRun
from mindsight.scanner.beside import read_events_file
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.recording import keep, open_recorded
from mindsight.scanner.transports import (
    FAILED,
    Clock,
    Item,
    RunEnded,
    Transport,
    Trouble,
    open_transport,
    planned_volumes,
)
from mindsight.settings import Settings
from mindsight.volume import Volume

FIRST_ANSWER_S = 10.0  # for a service that is just being started
WATCHING, RECEIVING, RECEIVED = "watching.json", "receiving.json", "received"
MAX_TOLD = 500  # troubles that the service is told of by one process; all of them are printed


@dataclass(frozen=True, slots=True)
class Sent:
    """What a stream came to: volumes acknowledged, volumes declared missing, seconds it took.

    n_lost : things that came and are in no volume: files and objects that cannot be read, slices of broken volumes
    """

    n_volumes: int
    n_missing: int
    seconds: float
    n_lost: int = 0

    @property
    def is_whole(self) -> bool:
        """All that came, and should have come, is with the service."""
        return self.n_missing == 0 and self.n_lost == 0


class Progress:
    """One line that is written over where somebody watches, and a line per 50 volumes where not."""

    def __init__(self, output: TextIO, total: int | None) -> None:
        self._output = output
        self._total = total
        self._open = False

    def show(self, done: int, missing: int, text: str = "") -> None:
        of = "" if self._total is None else f"/{self._total}"
        lost = f", {missing} missing" if missing else ""
        line = f"volume {done}{of} acknowledged{lost}{text}"
        if self._output.isatty():
            print(f"\r\x1b[2K{line}", end="", file=self._output, flush=True)
            self._open = True
        elif done % 50 == 0 or done == self._total:
            print(line, file=self._output, flush=True)

    def end(self) -> None:
        """Other lines may follow."""
        if self._open:
            print(file=self._output, flush=True)
            self._open = False


def send_run(
    recorded: RecordedRun,
    console: Console,
    *,
    events: Sequence[DeclaredEvent],
    task: str,
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    output: TextIO,
) -> Sent:
    """Declare a run and its events, send its volumes at ``speed`` times their own pace, end it.

    A volume that is not there or cannot be read is declared missing. Raises what the service says, and
    ServiceUnavailable where it is away for too long: then what was not acknowledged lies in the console's spool, and
    the same command again sends it.
    """
    run = recorded.run
    motion = None if recorded.motion_T6 is None else recorded.motion_order or "unknown"
    console.start_run(run, task=task, tr_s=recorded.tr_s, n_volumes=recorded.n_volumes, motion=motion)
    declare_events(console, run, events)
    progress = Progress(output, recorded.n_volumes)
    began_s, n_sent, n_missing = clock(), 0, 0

    def skip_to(index: int) -> int:
        for missing in range(n_sent + n_missing, index):
            console.mark_missing(run, missing, "not in the series, or not to be read")
        return index - n_sent

    for volume in recorded.volumes():
        n_missing = skip_to(volume.index)
        wait_s = began_s + volume.index * recorded.tr_s / speed - clock()
        if wait_s > 0.0:
            sleep(wait_s)
        console.send(volume)
        n_sent += 1
        progress.show(n_sent, n_missing)
    n_missing = skip_to(recorded.n_volumes)
    progress.end()
    console.end_run(run)
    say_unmeasured(run, events, recorded.n_volumes, recorded.tr_s)
    return Sent(n_sent, n_missing, clock() - began_s)


class Trail:
    """What a process that watches a folder, or stores objects, leaves for the next one with the same command.

    It keeps when the newest file changed that is none of its business, by the folder's own clock: of those that were
    there at the first start, or when the process before was stopped. Where that one was killed, the next process reads
    all that came later once more, and so has to know which run each series became: the first volume tells, whose noise
    no other one has.
    """

    def __init__(self, path: Path, command: str, newest_ns: int) -> None:
        self._path = path
        self._command = sha256_of(command.encode())
        self.newest_ns = newest_ns
        self.runs: dict[str, int] = {}
        self.is_followed = False
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(path.read_text(encoding="utf-8"))
            if noted["command"] == self._command:
                self.newest_ns, self.runs, self.is_followed = noted["newest_ns"], noted["runs"], True

    def note(self) -> None:
        """On the disk when this returns."""
        noted = {"command": self._command, "newest_ns": self.newest_ns, "runs": self.runs}
        write_durably(self._path, json.dumps(noted).encode())

    def note_run(self, first: Volume, run: int) -> None:
        self.runs[self._mark(first)] = run
        self.note()

    def run_of(self, first: Volume) -> int | None:
        """The run that a process before made of the series that begins with this volume."""
        return self.runs.get(self._mark(first)) if self.is_followed else None

    @staticmethod
    def _mark(first: Volume) -> str:
        place = f"{first.index} {first.shape} {first.acquired_s} {first.affine.tolist()}"
        return sha256_of(place.encode() + first.data.tobytes(order="F"))


class LiveStream:
    """What comes from a scanner, on its way to the service: runs find themselves, what is wrong is said.

    A process that goes on where another one was stopped sends nothing twice: the service knows how far each run is.

    first_run : least number of a run
    before : the session's runs, as the service has them
    events : of the first run that this process begins; later runs' come from whoever shows the pictures
    n_volumes : of each run, where it is planned
    trail : of a folder or of stored objects, which are read again; None for what is sent once
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
        output: TextIO,
        n_volumes: int | None = None,
    ) -> None:
        self._console = console
        self._n_volumes = n_volumes
        self._events = events
        self._events_of: int | None = None  # number of their run
        self._task = task
        self._trail = trail
        self._clock = clock
        self._output = output
        self._progress = Progress(output, None)
        self._before = {state.run: state for state in before if state.run >= first_run}
        self._last_run = max(self._before, default=first_run - 1)
        self._may_go_on = True  # the first that comes may belong to a run that was left open
        self._early: list[Trouble] = []  # a run cannot be declared before a volume of it says what its TR is
        self._last: Volume | None = None  # first of the run before
        self._coming = 0  # the transport's number of the run that is coming
        self._run = 0  # the session's number of it
        self._runs: dict[int, int] = {}  # the same of all that came
        self._is_over = False
        self._next_index = 0  # volumes before it are with the service
        self._n_sent = self._n_missing = self._n_told = self._n_lost = 0

    def send(self, items: Iterable[Item]) -> Sent:
        """Send them until they end. Raises what the service says, as ``send_run``, and what ended the transport."""
        began_s = self._clock()
        failed: Trouble | None = None
        for item in items:
            if isinstance(item, Volume):
                self._take(item)
            elif isinstance(item, Trouble):
                self._n_lost += item.lost
                failed = item if item.code == FAILED else failed
                self._tell(item)
            else:
                self._end(item)
        self._progress.end()
        if failed is not None:
            raise MindsightError(failed.text, code=failed.code)
        return Sent(self._n_sent, self._n_missing, self._clock() - began_s, self._n_lost)

    def _take(self, volume: Volume) -> None:
        if volume.run != self._coming:
            self._begin(volume)
        if not self._is_over and volume.index >= self._next_index:
            try:
                self._console.send(replace(volume, run=self._run))
            except BadVolume as error:  # the service takes no such volume; the next one may be better
                text = f"run {volume.run}: volume {volume.index}: {error}"
                self._tell(Trouble(error.code, text, volume.index, volume.run, missing=True))
                return
            self._n_sent += 1
            self._progress.show(self._n_sent, self._n_missing)

    def _begin(self, first: Volume) -> None:
        self._coming = first.run
        again = self._trail.run_of(first) if self._trail is not None else None
        self._run = self._runs[first.run] = run = self._run_of(first) if again is None else again
        before = self._before.get(run)
        self._is_over = before is not None and before.ended
        if not self._is_over:
            self._next_index = self._console.start_run(run, task=self._task, tr_s=first.tr_s, n_volumes=self._n_volumes)
            if self._trail is not None and again is None:
                self._trail.note_run(first, run)
            if self._events_of in (None, run):
                self._events_of = run
                declare_events(self._console, run, self._events)
            if self._next_index:
                self._say(f"run {run} goes on at volume {self._next_index}; those before are with the service")
            else:
                self._say(f"run {run} has begun: {_sides(first)} voxels, TR {first.tr_s:g} s")
            if self._last is not None and self._last.shape != first.shape:
                text = f"run {run} has volumes of {_sides(first)} voxels, the run before {_sides(self._last)}"
                self._warn("run.shape", f"{text}; is it the sequence that was calibrated?", run, None)
        self._last = first
        early, self._early = self._early, []
        for trouble in early:
            self._tell(trouble)

    def _run_of(self, first: Volume) -> int:
        """Number of a run that no process before had begun, or that it left open and this goes on."""
        before, may_go_on = self._before.get(self._last_run), self._may_go_on
        self._may_go_on = False
        if before is not None and not before.ended:
            # What was noted of a run that is read again would have been found, unless nothing of it was sent.
            is_same = before.next_index == 0 or (self._trail is None and first.index >= before.next_index)
            if may_go_on and is_same:
                return self._last_run
            self._console.end_run(self._last_run)  # it was left open, and the scanner began anew meanwhile
            self._before[self._last_run] = replace(before, ended=True)
        self._last_run += 1
        return self._last_run

    def _tell(self, trouble: Trouble) -> None:
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
            self._console.mark_missing(run, trouble.index, text[:200])
            self._n_missing += 1
        self._warn(trouble.code, text, run, trouble.index, to_service=not trouble.missing)  # which tells that itself

    def _warn(self, code: str, text: str, run: int | None, index: int | None, *, to_service: bool = True) -> None:
        self._progress.end()
        print(f"{text} [{code}]", file=sys.stderr, flush=True)
        if to_service and self._n_told < MAX_TOLD:
            self._n_told += 1
            self._console.warn(code, text, run=run, index=None if index is None or index < 0 else index)

    def _end(self, ended: RunEnded) -> None:
        if ended.run != self._coming:  # not one volume of it came, so it was never declared
            self._coming, early, self._early = ended.run, self._early, []
            for trouble in early:
                self._warn(trouble.code, trouble.text, None, None)
        elif not self._is_over:
            self._console.end_run(self._run)
            self._say(f"run {self._run} has ended after {ended.n_volumes} volumes")
            if self._run == self._events_of and self._last is not None:
                say_unmeasured(self._run, self._events, ended.n_volumes, self._last.tr_s)

    def _say(self, text: str) -> None:
        self._progress.end()
        print(text, file=self._output, flush=True)


def _sides(volume: Volume) -> str:
    return "×".join(map(str, volume.shape))


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
    triggers: str | None = None,
    record: Path | None = None,
    echo: EchoChoice = None,
) -> Sent:
    """The commands ``mindsight stream`` and ``mindsight replay --session``.

    triggers, record : of a live source: where pulses are listened for, and the folder where its volumes are kept
    echo : which of several echoes, or all combined; the same as ``echo=`` in a live source
    """
    if echo is not None and is_live(source) and not re.search(r"[?&]echo=", source):
        source += f"{'&' if '?' in source else '?'}echo={echo}"
    if not key:
        raise BadRequest("expected a key: set MINDSIGHT_KEY, or pass --key", code="cli.key")
    if not re.match(r"^[A-Za-z0-9]{1,64}$", task):  # else it were refused when the scanner has begun
        raise BadRequest("expected --task to be letters and digits, as BIDS has it", code="cli.task")
    settings = Settings()
    table = None if events is None else _read_events(events)  # judged before anything is listened to
    address = to or gateway_url(settings)
    spool_dir = spool or settings.data_dir / "spool"
    with Console(address, key, session=session, deadline_s=FIRST_ANSWER_S) as console:
        console.runs()  # a wrong address, key or session is said at once, and before anything is listened to
        if is_live(source) and planned_volumes(source) is None and console.needs_n_volumes():
            text = (
                "expected n=, the volumes of each run, in the source: the session's bundle was calibrated with a drift"
            )
            raise BadRequest(f"{text} basis over the planned run", code="run.length_unknown")
    with Console(address, key, session=session, spool_dir=spool_dir) as console:
        try:
            if is_live(source):
                declared = declare(() if table is None else table.events)
                tell(console, (*(() if table is None else table.notes), *declared.notes))
                sent = _stream_live(source, console, spool_dir / session, declared.events, run, task, triggers, record)
            else:
                recorded = open_recorded(Path(source), run, events=table, on_bad=_say_bad, echo=echo)
                declared = declare(recorded.events)
                tell(console, (*recorded.notes, *declared.notes), run)
                sent = send_run(
                    recorded,
                    console,
                    events=declared.events,
                    task=task,
                    speed=speed,
                    clock=time.monotonic,
                    sleep=time.sleep,
                    output=sys.stdout,
                )
        except (ServiceUnavailable, BusUnavailable, StorageFull):
            text = "nothing that was acknowledged is lost; the same command again goes on from there"
            print(f"\nthe service did not answer for long: {text}", file=sys.stderr)
            raise
    lost = f", {sent.n_lost} objects left out" if sent.n_lost else ""
    print(f"{sent.n_volumes} volumes acknowledged, {sent.n_missing} missing{lost}, in {sent.seconds:.1f} s")
    return sent


def _say_bad(error: BadVolume) -> None:
    print(f"passed over: {error} [{error.code}]", file=sys.stderr, flush=True)


def _stream_live(
    source: str,
    console: Console,
    spool: Path,
    events: Sequence[DeclaredEvent],
    first_run: int,
    task: str,
    triggers: str | None,
    record: Path | None,
) -> Sent:
    _send_what_waits(console)
    trail, opened = None, source
    if source.startswith("watch:"):
        trail = Trail(spool / WATCHING, f"{first_run} {source}", _newest_ns(source))
        if trail.is_followed and "existing=1" not in source:
            opened += f"{'&' if '?' in source else '?'}since={trail.newest_ns}"
    elif source.startswith("cstore:"):
        trail = Trail(spool / RECEIVING, "cstore", 0)  # its objects lie on this disk, whatever the options were
    live = LiveStream(
        console,
        first_run=first_run,
        before=console.runs(),
        events=events,
        task=task,
        trail=trail,
        clock=time.monotonic,
        output=sys.stdout,
        n_volumes=planned_volumes(source),
    )
    with _listening(opened, triggers, spool / RECEIVED) as transport:
        if trail is not None:
            trail.note()

        def stop(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=transport.close, daemon=True).start()

        previous = signal.signal(signal.SIGINT, stop)
        try:
            print("listening; Ctrl-C ends the run and the stream", flush=True)
            items = transport.items()
            sent = live.send(items if record is None else keep(items, record))
            if trail is not None:  # it was not killed: all that is there now has been dealt with
                trail.newest_ns = max(trail.newest_ns, _newest_ns(source))
                trail.note()
            return sent
        finally:
            signal.signal(signal.SIGINT, previous)


def _listening(source: str, triggers: str | None, spool: Path) -> Transport:
    try:
        return open_transport(source, clock=Clock(time.time, time.monotonic), triggers=triggers, spool=spool)
    except BadRequest as error:
        if error.code != "transport.address":
            raise
        hint = "is another stream still running, or another program at this port? stop it, or name another port"
        raise BadRequest(f"{error}; {hint}", code=error.code) from None


def _send_what_waits(console: Console) -> None:
    """What a process that was stopped had read and not seen acknowledged; what is refused stops nothing."""
    while console.waiting():
        try:
            console.resume()
        except (BadVolume, BadRequest, Conflict, Diverged) as error:
            print(f"a volume that waited on this machine was put aside: {error} [{error.code}]", file=sys.stderr)


def _newest_ns(source: str) -> int:
    """When the newest file of a watched folder changed, by the folder's own clock; 0 where there is none."""
    newest_ns = 0
    folder = source.partition("?")[0].removeprefix("watch:").removeprefix("//")
    for where, _, names in os.walk(folder) if source.startswith("watch:") else ():
        for name in names:
            with contextlib.suppress(OSError):  # gone again
                newest_ns = max(newest_ns, os.lstat(os.path.join(where, name)).st_mtime_ns)
    return newest_ns


def _read_events(path: Path) -> EventsTable:
    try:
        return read_events_file(path)
    except BadRequest as error:
        if error.code != "run.unreadable":
            raise
        text = "expected a BIDS events.tsv with --events: it is not there, or cannot be read"
        raise BadRequest(text, code="events.unreadable") from None
