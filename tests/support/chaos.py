"""A whole service whose processes are killed, paused and starved while sessions stream, and what must hold.

Which process, when and how follows from the seed. What must hold: every acknowledged volume is in the log once, with
the bytes that were sent; betas and rankings are those of a session that nothing disturbed; nothing has a second result;
message numbers have no gap; every session is archived.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mindsight import assets
from mindsight.blobs import BlobStore
from mindsight.bus import Bus
from mindsight.client import Console
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import BusUnavailable, MindsightError, ServiceUnavailable, StorageFull
from mindsight.journal.read import Journal
from mindsight.operations.supervisor import Supervisor
from mindsight.protocol import BetaReady, Message, Result, SessionArchived, VolumeProcessed, Warned
from mindsight.protocol.inputs import TakeVolume
from mindsight.settings import Settings
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design, RunPlan
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.keys import create_keys
from support.blows import kind_of, strike, tree

PARTS = ("bus", "gateway", "ingest", "ingest-2", "inference", "jobs")
PAUSES_S = (0.5, 2.0, 8.0)
SETTLE_S = 180.0
PACE_S = 0.5  # between two volumes of a session at most: time to recover cannot be seen finer than volumes come
MAX_RUNS = 40  # volumes of all runs are held in memory
RECOVERING = ("ingest", "bus")  # without which no volume is processed; an ingest worker: of the sessions that it leads
OUTAGES = (ServiceUnavailable, BusUnavailable, StorageFull)
T = TypeVar("T")


class Kill(NamedTuple):
    """at_s : in seconds since the Unix epoch; sessions : that could not go on without what was killed."""

    part: str
    at_s: float
    sessions: Collection[str]


@dataclass(frozen=True)
class Plan:
    """How a campaign goes. every_s : least and most time between two blows."""

    seed: int = 1
    n_blows: int = 12
    n_sessions: int = 2
    every_s: tuple[float, float] = (1.0, 3.0)
    parts: Sequence[str] = PARTS


@dataclass
class Found:
    """What a campaign found. ``faults`` : a line for each thing that does not hold."""

    blows: Counter[str] = field(default_factory=Counter)
    n_acknowledged: int = 0
    n_betas: int = 0
    n_results: int = 0
    faults: list[str] = field(default_factory=list)
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in RECOVERING})
    warnings: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        return {
            "blows": dict(self.blows),
            "acknowledged": self.n_acknowledged,
            "betas": self.n_betas,
            "results": self.n_results,
            "faults": len(self.faults),
            "next_processed_volume_after_a_kill_s": {
                part: {
                    "n": len(of_part),
                    "median": round(float(np.median(of_part)), 2),
                    "p99": round(float(np.percentile(of_part, 99)), 2),
                    "max": round(max(of_part), 2),
                }
                for part, of_part in self.recovery_s.items()
                if of_part
            },
            "warnings": dict(self.warnings),
        }


def short_visit(n_runs: int = 1) -> list[tuple[RunPlan, list[Volume]]]:
    """Runs of the demo's participant."""
    encoder = DemoEncoder.load(assets.ENCODER)
    design = Design(trials_per_run=6, repeats_per_run=1, lead_in_s=3.0, tail_s=12.0)
    visit = demo_visit(encoder.encode, encoder.image_size, seed=9, n_runs=n_runs, design=design)
    return [(plan, list(visit.volumes(plan))) for plan in visit.plans]


class Service:
    """The parts as ``mindsight serve`` runs them, with the demo's bundle."""

    def __init__(self, data_dir: Path, port: int, redis_url: str = "embedded://") -> None:
        self.settings = Settings(data_dir=data_dir, port=port, redis_url=redis_url)
        shutil.copytree(assets.BUNDLE, self.settings.bundles_dir / "demo")
        self.key = create_keys(data_dir)["experimenter"]
        self.supervisor = Supervisor(self.settings, announce=lambda _: None, parts=PARTS)
        self.url = self.supervisor.start()

    def console(self, spool: Path) -> Console:
        return Console(self.url, self.key, spool_dir=spool, deadline_s=20.0)

    def read(self, session: str) -> tuple[list[TakeVolume], list[Message]]:
        """The volumes in the session's input log, and its messages; waits for a bus that is away."""

        def look() -> tuple[list[TakeVolume], list[Message]]:
            bus = Bus.from_settings(self.settings)
            try:
                journal = Journal(bus, session)
                taken = [entry for entry in journal.read_inputs() if isinstance(entry, TakeVolume)]
                return taken, list(journal.read_messages())
            finally:
                bus.close()

        return insist(look)

    def archived(self, session: str) -> tuple[list[TakeVolume], list[Message]]:
        until_s = time.monotonic() + SETTLE_S
        while True:
            found = self.read(session)
            if any(isinstance(m, SessionArchived) for m in found[1]) or time.monotonic() > until_s:
                return found
            time.sleep(0.5)


@contextmanager
def served(data_dir: Path, port: int, redis_url: str = "embedded://") -> Iterator[Service]:
    service = Service(data_dir, port, redis_url)
    try:
        yield service
    finally:
        service.supervisor.stop()


def insist(call: Callable[[], T]) -> T:
    """Through every outage, as a console's operator would."""
    until_s = time.monotonic() + SETTLE_S
    while True:
        try:
            return call()
        except OUTAGES:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.2)


def play(console: Console, runs: Sequence[tuple[RunPlan, list[Volume]]], pace_s: float, acks: dict[Any, str]) -> None:
    for plan, volumes in runs:
        insist(lambda plan=plan: console.start_run(plan.run, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes))
        events = [
            {
                "trial": s.trial,
                "onset_s": s.onset_s,
                "duration_s": s.duration_s,
                "candidate": f"scene-{s.candidate:03d}",
            }
            for s in plan.shown
        ]
        insist(lambda plan=plan, events=events: console.add_events(plan.run, events))
        for volume in volumes:
            acks[volume.run, volume.index] = insist(lambda volume=volume: console.send(volume)).digest
            time.sleep(pace_s)
        insist(lambda plan=plan: console.end_run(plan.run))
    insist(console.close_session)
    console.close()


def campaign(folder: Path, plan: Plan, port: int) -> Found:
    """Stream, strike, wait until all is archived, and compare."""
    return disturbed(
        folder,
        port,
        plan.n_sessions,
        plan.n_blows * sum(plan.every_s) / 2,
        lambda service, sessions, found: _strike(service, plan, found.blows, sessions),
    )


def disturbed(
    folder: Path,
    port: int,
    n_sessions: int,
    total_s: float,
    strike: Callable[[Service, Sequence[str], Found], Sequence[Kill]],
) -> Found:
    """Stream for that long and call ``strike`` meanwhile; wait until all is archived, and compare."""
    found = Found()
    of_one_run = sum(len(volumes) for _, volumes in short_visit())
    runs = short_visit(min(max(math.ceil(total_s / PACE_S / of_one_run), 1), MAX_RUNS))
    n_volumes = sum(len(volumes) for _, volumes in runs)
    with served(folder / "data", port) as service:
        with service.console(folder / "calm") as console:
            subject = console.enrol("demo")
        calm = service.console(folder / "calm")
        calm.open_session(subject, session="calm")
        play(calm, runs, 0.0, {})
        truth = service.archived("calm")[1]
        acks: dict[str, dict[Any, str]] = {f"wild-{number}": {} for number in range(n_sessions)}
        pace_s = total_s / n_volumes
        threads = []
        for session, of_session in acks.items():
            console = service.console(folder / session)
            console.open_session(subject, session=session)
            threads.append(_Player(console, runs, pace_s, of_session))
            threads[-1].start()
        kills = strike(service, list(acks), found)
        for thread in threads:
            thread.join(SETTLE_S + total_s)  # each outage leaves a console behind its pace
            if thread.fault is not None or thread.is_alive():
                found.faults.append(f"a console ended or hangs: {thread.fault!r}")
        for session, of_session in acks.items():
            compare(service, session, runs, of_session, truth, found)
            _recovery(service.read(session)[1], [kill for kill in kills if session in kill.sessions], found)
    return found


class _Player(threading.Thread):
    def __init__(self, console: Console, runs: Any, pace_s: float, acks: dict[Any, str]) -> None:
        super().__init__(daemon=True)
        self._given = (console, runs, pace_s, acks)
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            play(*self._given)
        except Exception as error:
            self.fault = error


def _strike(service: Service, plan: Plan, blows: Counter[str], sessions: Sequence[str]) -> list[Kill]:
    """Strike parts; returns the kills."""
    random_ = random.Random(plan.seed)
    kills, lasting = [], []
    for _ in range(plan.n_blows):
        time.sleep(random_.uniform(*plan.every_s))
        part, share, for_s = random_.choice(list(plan.parts)), random_.random(), random_.choice(PAUSES_S)
        pid, kind = service.supervisor.process(part).pid, kind_of(share)
        with suppress(ProcessLookupError):
            ingest = kind == "kill" and part.startswith("ingest")
            stopped = led_by(service, pid, sessions) if ingest else sessions
            lasting.append(strike(tree(pid)[-1] if part == "bus" and kind == "pause" else pid, kind, for_s))
            blows[f"{kind} {part}"] += 1
            if kind == "kill":
                kills.append(Kill(part.removesuffix("-2"), time.time(), stopped))
    for thread in lasting:
        if thread is not None:
            thread.join()
    return kills


def led_by(service: Service, pid: int, sessions: Sequence[str]) -> list[str]:
    """Those of these sessions whose lease this process has; none while the bus is away."""
    bus = Bus.from_settings(service.settings)
    try:
        leases = {session: bus.command("GET", f"s:{{{session}}}:lease") for session in sessions}
    except MindsightError:
        return []
    finally:
        bus.close()
    return [session for session, lease in leases.items() if lease and lease.decode().split("/")[-2] == str(pid)]


def compare(
    service: Service, session: str, runs: Any, acks: dict[Any, str], truth: Sequence[Message], found: Found
) -> None:
    taken, messages = service.archived(session)
    sent = {(v.run, v.index): encode_volume(v) for _, volumes in runs for v in volumes}
    blobs, fault = BlobStore(service.settings.blobs_dir), found.faults.append
    places = Counter((entry.run, entry.index) for entry in taken)
    logged = {(entry.run, entry.index): entry.digest for entry in taken}
    for place, n in places.items():
        if n > 1:
            fault(f"{session}: volume {place} is in the log {n} times")
    for place, digest in acks.items():
        try:
            if logged.get(place) != digest or blobs.get(digest) != sent[place]:
                fault(f"{session}: acknowledged volume {place} is not what was sent")
        except MindsightError:
            fault(f"{session}: acknowledged volume {place} is lost")
    for what, of in (("betas", _betas), ("rankings", _rankings)):
        expected, got = of(truth), of(messages)
        if twice := [key for key, n in Counter(got).items() if n > 1]:
            fault(f"{session}: {what} twice: {twice[:3]}")
        if other := set(got) ^ set(expected):
            fault(f"{session}: {len(other)} {what} differ from those of an undisturbed session: {min(other)[:100]}")
    if [m.id for m in messages] != list(range(1, len(messages) + 1)):
        fault(f"{session}: message numbers have a gap")
    if not any(isinstance(m, SessionArchived) for m in messages):
        fault(f"{session}: not archived after {SETTLE_S:.0f} s")
    found.n_acknowledged += len(acks)
    found.n_betas += sum(isinstance(m, BetaReady) for m in messages)
    found.n_results += sum(isinstance(m, Result) for m in messages)
    found.warnings.update(m.code for m in messages if isinstance(m, Warned))


def _betas(messages: Sequence[Message]) -> Counter[str]:
    return Counter(f"{m.run}-{m.trial}-{m.stage}: {m.beta}" for m in messages if isinstance(m, BetaReady))


def _rankings(messages: Sequence[Message]) -> Counter[str]:
    return Counter(
        f"{m.run}-{m.trial}-{m.stage}: {json.dumps([(c.id, c.score, c.probability) for c in m.candidates])}"
        for m in messages
        if isinstance(m, Result)
    )


def _recovery(messages: Sequence[Message], kills: Sequence[Kill], found: Found) -> None:
    """Time from a kill of a part that the session's volumes need until its next processed volume."""
    processed_s = sorted(m.t for m in messages if isinstance(m, VolumeProcessed))
    for part, at_s, _ in kills:
        later = next(itertools.dropwhile(lambda t, at_s=at_s: t <= at_s, processed_s), None)
        if part in RECOVERING and later is not None and any(t < at_s for t in processed_s):
            found.recovery_s[part].append(later - at_s)
