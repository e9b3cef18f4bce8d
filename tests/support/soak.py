"""A service that scans for hours, and whether anything of it grows: memory of each process, open files, bus, disk.

Consoles conduct visits, one after another: a session is opened, scanned faster than by a scanner, closed and archived.
What a process needs goes up and down with the visits, so that all consoles rest from time to time, and what is there at
rest is compared.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from mindsight.bus import Bus
from mindsight.journal.sessions import Sessions
from support.chaos import SETTLE_S, Service, insist, play, served, short_visit
from support.proc import anonymous_mb, children

LIMIT_PER_H = {"MB": 1.0, "files": 12.0}  # by unit; of what is judged
REST_S, SHORT_REST_S = 100.0, 10.0  # of an hour and more: until what was archived has left the bus
HOUR = 60.0  # minutes
BUS, KEPT_OF_A_VISIT_MB = "bus: what it keeps, MB", 5e-3  # of an archived session, as the changelog has it
N_SAMPLES, EVERY_S = 5, 1.0  # at rest
PARTS = ("bus", "gateway", "ingest", "ingest-2", "inference", "jobs")
KEPT = ("blobs", "archive", "sealed", "shown", "audit")  # what a visit leaves behind: data, not judged
Series = dict[str, list[tuple[float, float]]]  # name with unit -> hours, value


def warm_up(minutes: float) -> float:
    """Minutes after which nothing grows that only fills once: caches, freed memory, the bus's last sessions."""
    return max(0.5 * minutes, min(3.0, 0.6 * minutes))


def n_rests(minutes: float) -> int:
    return int(min(max(4.0, minutes / 10.0), 24.0))


@dataclass(frozen=True)
class Slope:
    """How fast something grows, per hour, with its 95 % interval (Theil-Sen), and its value at the last rest."""

    per_h: float
    low: float
    high: float
    last: float


@dataclass
class Soaked:
    """What was seen. series : what was there at each rest after the warm-up."""

    n_visits: int = 0
    faults: list[str] = field(default_factory=list)
    series: Series = field(default_factory=dict)

    def slopes(self) -> dict[str, Slope]:
        return {name: slope_of(samples) for name, samples in sorted(self.series.items())}


def slope_of(samples: Sequence[tuple[float, float]]) -> Slope:
    hours, values = np.array(samples, dtype=np.float64).T
    found = theilslopes(values, hours)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope), float(values[-1]))


def growing(slopes: Mapping[str, Slope], visits_per_h: float = 0.0) -> list[str]:
    """A line for each thing that surely grows faster than it may: the lower bound of its slope is above the limit.

    The bus may keep a little of each visit, and visits here are hundreds of times as frequent as those of people.
    """
    found = []
    for name, slope in slopes.items():
        limit = LIMIT_PER_H.get(name.rpartition(", ")[2])
        if limit is None:
            continue
        limit += KEPT_OF_A_VISIT_MB * visits_per_h if name == BUS else 0.0
        if slope.low > limit:
            grown = f"{slope.per_h:.1f} per hour ({slope.low:.1f} to {slope.high:.1f})"
            found.append(f"{name} grows by {grown}, expected at most {limit:.1f}")
    return found


def soak(folder: Path, minutes: float, n_sessions: int, speed: float, port: int) -> Soaked:
    """Scan with that many consoles at once, that many times as fast as a scanner."""
    found, runs = Soaked(), short_visit()
    pace_s = runs[0][0].tr_s / speed
    with served(folder / "data", port) as service:
        with service.console(folder / "enrol") as console:
            subject = console.enrol("demo")
        numbers = itertools.count(1)

        def visit(seat: int) -> None:
            session = f"soak-{next(numbers)}"
            console = service.console(folder / f"spool-{seat}")
            insist(lambda: console.open_session(subject, session=session))
            play(console, runs, pace_s, {})
            with closing(Bus.from_settings(service.settings)) as bus:
                if not _archived(bus, session):
                    found.faults.append(f"{session} was not archived within {SETTLE_S:.0f} s")
            found.n_visits += 1

        with Consoles(visit, n_sessions) as consoles:
            _watch(service, consoles, minutes, found.series)
    found.faults += growing(found.slopes(), found.n_visits / (minutes / 60.0))
    return found


class Consoles:
    """Threads that conduct one visit after another until the block ends; between two visits they rest when asked to."""

    def __init__(self, visit: Callable[[int], None], n: int) -> None:
        self._visit = visit
        self._asked, self._ended = threading.Event(), threading.Event()
        self._at_work = [threading.Lock() for _ in range(n)]
        self._threads = [threading.Thread(target=self._conduct, args=(seat,), daemon=True) for seat in range(n)]

    def __enter__(self) -> Consoles:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(SETTLE_S)

    @contextmanager
    def rest(self) -> Iterator[None]:
        """In the block no visit goes on. Raises TimeoutError if one does not end."""
        self._asked.set()
        with ExitStack() as held:
            held.callback(self._asked.clear)
            for seat, lock in enumerate(self._at_work):
                if not lock.acquire(timeout=2 * SETTLE_S):
                    raise TimeoutError(f"the visit at console {seat} did not end within {2 * SETTLE_S:.0f} s")
                held.callback(lock.release)
            yield

    def _conduct(self, seat: int) -> None:
        while not self._ended.is_set():
            if self._asked.is_set():
                time.sleep(0.1)
                continue
            with self._at_work[seat]:
                self._visit(seat)


def _archived(bus: Bus, session: str) -> bool:
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:
        if insist(lambda: Sessions(bus).get(session)).state == "archived":
            return True
        time.sleep(0.5)
    return False


def _watch(service: Service, consoles: Consoles, minutes: float, series: Series) -> None:
    began_s, first = time.monotonic(), warm_up(minutes)
    rest_s = REST_S if minutes >= HOUR else SHORT_REST_S
    with closing(Bus.from_settings(service.settings)) as bus:
        for at in np.linspace(first, minutes, n_rests(minutes)):
            time.sleep(max(0.0, began_s + 60.0 * at - time.monotonic()))
            with consoles.rest():
                time.sleep(rest_s)
                for name, value in _least(service, bus).items():
                    series.setdefault(name, []).append(((time.monotonic() - began_s) / 3600.0, value))


def _least(service: Service, bus: Bus) -> dict[str, float]:
    """The least of a few samples: now and then a process does something by itself."""
    found: dict[str, float] = {}
    for _ in range(N_SAMPLES):
        for name, value in _samples(service, bus):
            found[name] = min(value, found.get(name, value))
        time.sleep(EVERY_S)
    return found


def _samples(service: Service, bus: Bus) -> Iterator[tuple[str, float]]:
    started = children()
    for part in PARTS:
        pid = service.supervisor.process(part).pid
        with suppress(OSError):  # it has just ended
            yield f"{part}, MB", anonymous_mb(pid)
            yield f"{part}, files", float(len(os.listdir(f"/proc/{pid}/fd")))
        if part.startswith("ingest"):
            for server in started.get(pid, []):  # forks a process for each session
                with suppress(OSError):
                    yield f"{part}: fork server, MB", anonymous_mb(server)
                yield f"{part}: processes of sessions", float(len(started.get(server, [])))
    memory = bus.command("INFO", "memory")
    text = memory.decode() if isinstance(memory, bytes) else str(memory)
    used = next(line for line in text.splitlines() if line.startswith("used_memory:"))
    yield BUS, int(used.partition(":")[2]) / 2**20
    yield "disk: data of the visits, kept MB", sum(_size_mb(service.settings.data_dir / name) for name in KEPT)
    rest = _size_mb(service.settings.data_dir, without=(*KEPT, "bus"))
    yield "disk: all else but the bus, MB", rest


def _size_mb(folder: Path, without: Sequence[str] = ()) -> float:
    total = 0
    for parent, folders, files in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [one for one in folders if one not in without]
        for name in files:
            with suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total / 2**20
