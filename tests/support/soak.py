"""A service that scans for hours, and whether anything of it grows: memory of each process, open files, bus, disk.

Consoles conduct visits, one after another: a session is opened, scanned faster than by a scanner, closed and archived.
What a process needs goes up and down with the visits, so that the least of each stretch of time is compared.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from mindsight.bus import Bus
from mindsight.journal.sessions import Sessions
from support.chaos import SETTLE_S, Service, insist, play, served, short_visit
from support.proc import children

LIMIT_PER_H = {"MB": 1.0, "files": 12.0}  # by unit; of what is judged
N_STRETCHES = 12
BUS, KEPT_OF_A_VISIT_MB = "bus: what it keeps, MB", 5e-3  # of an archived session, as the changelog has it
EVERY_S = 2.0
PARTS = ("bus", "gateway", "ingest", "ingest-2", "inference", "jobs")
KEPT = ("blobs", "archive", "sealed", "shown")  # what a visit leaves behind: data, not judged
Series = dict[str, list[tuple[float, float]]]  # name with unit -> hours, value


def warm_up(minutes: float) -> float:
    """Minutes after which what is there after one visit is there: caches, and sessions that have left the bus."""
    return max(0.3 * minutes, min(3.0, 0.6 * minutes))


@dataclass(frozen=True)
class Slope:
    """How fast something grows, per hour, with its 95 % interval (Theil-Sen), and its least value at the end."""

    per_h: float
    low: float
    high: float
    last: float


@dataclass
class Soaked:
    """What was seen. series : samples after the warm-up."""

    n_visits: int = 0
    faults: list[str] = field(default_factory=list)
    series: Series = field(default_factory=dict)

    def slopes(self) -> dict[str, Slope]:
        return {name: slope_of(samples) for name, samples in sorted(self.series.items())}


def slope_of(samples: Sequence[tuple[float, float]]) -> Slope:
    """The slope of the least values of N_STRETCHES stretches of time."""
    hours, values = np.array(samples, dtype=np.float64).T
    stretch = np.minimum(((hours - hours[0]) / max(np.ptp(hours), 1e-9) * N_STRETCHES).astype(int), N_STRETCHES - 1)
    least = [int(np.flatnonzero(stretch == one)[values[stretch == one].argmin()]) for one in np.unique(stretch)]
    found = theilslopes(values[least], hours[least])
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope), float(values[least[-1]]))


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
        ended = threading.Event()
        numbers = itertools.count(1)

        def conduct(seat: int) -> None:
            with closing(Bus.from_settings(service.settings)) as bus:
                while not ended.is_set():
                    session = f"soak-{next(numbers)}"
                    console = service.console(folder / f"spool-{seat}")
                    insist(lambda: console.open_session(subject, session=session))  # noqa: B023 - called at once
                    play(console, runs, pace_s, {})
                    if not _archived(bus, session):
                        found.faults.append(f"{session} was not archived within {SETTLE_S:.0f} s")
                    found.n_visits += 1

        threads = [threading.Thread(target=conduct, args=(seat,), daemon=True) for seat in range(n_sessions)]
        for thread in threads:
            thread.start()
        _watch(service, minutes, found.series)
        ended.set()
        for thread in threads:
            thread.join(SETTLE_S)
    found.faults += growing(found.slopes(), found.n_visits / (minutes / 60.0))
    return found


def _archived(bus: Bus, session: str) -> bool:
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:
        if insist(lambda: Sessions(bus).get(session)).state == "archived":
            return True
        time.sleep(0.5)
    return False


def _watch(service: Service, minutes: float, series: Series) -> None:
    began_s = time.monotonic()
    with closing(Bus.from_settings(service.settings)) as bus:
        while (passed_s := time.monotonic() - began_s) < 60.0 * minutes:
            if passed_s > 60.0 * warm_up(minutes):
                for name, value in _samples(service, bus):
                    series.setdefault(name, []).append((passed_s / 3600.0, value))
            time.sleep(EVERY_S)


def _samples(service: Service, bus: Bus) -> Iterator[tuple[str, float]]:
    started = children()
    for part in PARTS:
        pid = service.supervisor.process(part).pid
        with suppress(OSError):  # it has just ended
            yield f"{part}, MB", _anonymous_mb(pid)
            yield f"{part}, files", float(len(os.listdir(f"/proc/{pid}/fd")))
        if part.startswith("ingest"):
            for server in started.get(pid, []):  # forks a process for each session
                with suppress(OSError):
                    yield f"{part}: fork server, MB", _anonymous_mb(server)
                yield f"{part}: processes of sessions", float(len(started.get(server, [])))
    memory = bus.command("INFO", "memory")
    text = memory.decode() if isinstance(memory, bytes) else str(memory)
    used = next(line for line in text.splitlines() if line.startswith("used_memory:"))
    yield BUS, int(used.partition(":")[2]) / 2**20
    yield "disk: data of the visits, kept MB", sum(_size_mb(service.settings.data_dir / name) for name in KEPT)
    rest = _size_mb(service.settings.data_dir, without=(*KEPT, "bus"))
    yield "disk: all else but the bus, MB", rest


def _anonymous_mb(pid: int) -> float:
    """What the process has for itself: not its code, nor files that it reads."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024.0
    raise OSError(f"process {pid} has ended")


def _size_mb(folder: Path, without: Sequence[str] = ()) -> float:
    total = 0
    for parent, folders, files in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [one for one in folders if one not in without]
        for name in files:
            with suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total / 2**20
