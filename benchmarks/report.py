"""What all benchmarks share: clocks, one table with ratios and floors, and the history as JSON.

Knows nothing of what is measured.

Times are taken twice: wall time is what a person waits on a machine as loaded as it is, process time is what the work
costs. Methods that are compared are timed in turn, once each per round, so that whatever else the machine does falls on
all of them; a ratio is the median over rounds of the ratio within the round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

HERE = Path(__file__).resolve().parent
_HISTORY = HERE / "history"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Recorded and simulated runs, which are not part of the repository."""


@dataclass
class Clock:
    """Wall and process milliseconds of each call."""

    wall_ms: list[float] = field(default_factory=list)
    process_ms: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], Any]) -> Any:
        wall, process = time.perf_counter(), time.process_time()
        out = work()
        self.wall_ms.append(1e3 * (time.perf_counter() - wall))
        self.process_ms.append(1e3 * (time.process_time() - process))
        return out

    def figures(self) -> dict[str, float]:
        """Median, least and 99th percentile of wall time, median and 99th percentile of process time."""
        return {
            **spread(self.wall_ms),
            "min": round(float(np.min(self.wall_ms)), 3),
            "process": round(float(np.median(self.process_ms)), 3),
            "process_p99": round(float(np.percentile(self.process_ms, 99)), 3),
        }

    def times(self, other: Clock) -> dict[str, float]:
        """How many times as long as ``other`` it took, by either clock: medians over rounds."""
        wall = float(np.median(np.divide(self.wall_ms, other.wall_ms)))
        process = float(np.median(np.divide(self.process_ms, np.maximum(other.process_ms, 1e-3))))
        return {"wall": round(wall, 2), "process": round(process, 2)}


def spread(values_ms: ArrayLike) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    taken = np.asarray(values_ms, dtype=np.float64)
    return {
        "median": round(float(np.median(taken)), 3),
        "p99": round(float(np.percentile(taken, 99)), 3),
        "max": round(float(taken.max()), 3),
    }


def in_turn(
    methods: Mapping[str, Callable[[], object]], rounds: int, before: Callable[[str], object] = lambda _: None
) -> dict[str, Clock]:
    """Every method once per round; a first round, which compiles, is left out. ``before`` is called with the method's
    name, untimed.
    """
    clocks = {name: Clock() for name in methods}
    for i in range(rounds + 1):
        for name, method in methods.items():
            before(name)
            clock = clocks[name] if i > 0 else Clock()
            clock.time(method)
    return clocks


def compared(
    clocks: Mapping[str, Clock], *, ours: Mapping[str, str] | None = None, floor: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Each method's figures; where ``ours`` or ``floor`` name a method to compare it with, how many times as long."""
    rows: dict[str, dict[str, Any]] = {name: clock.figures() for name, clock in clocks.items()}
    for column, names in (("times_ours", ours or {}), ("times_floor", floor or {})):
        for name, other in names.items():
            rows[name][column] = clocks[name].times(clocks[other])
    return rows


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Rows as ``compared`` gives them, in milliseconds; the place of a figure that a row has not is empty. A ratio is
    that of wall times, in brackets that of process times.
    """
    width = max(map(len, rows), default=0) + 2
    columns = ("n", "median", "min", "p99", "max", "process", "process_p99", "floor")
    used = [column for column in columns if any(column in row for row in rows.values())]
    ratios = [column for column in ("times_ours", "times_floor") if any(column in row for row in rows.values())]
    print(f"\n{title}")
    heads = [f"{name.replace('process', 'cpu').replace('_', ' '):>9}" for name in used]
    heads += [f"{name.replace('times_', 'x '):>18}" for name in ratios]
    print(f"{'ms':<{width}}" + " ".join(heads))
    for name, row in rows.items():
        cells = [_number(row.get(column)) for column in used]
        for column in ratios:
            ratio = row.get(column)
            text = "" if ratio is None else f"{ratio['wall']:.1f} ({ratio['process']:.1f})"
            cells.append(f"{text:>18}")
        print((f"{name:<{width}}" + " ".join(cells)).rstrip())


def _number(value: float | None) -> str:
    if value is None:
        return 9 * " "
    return f"{value:9d}" if isinstance(value, int) else f"{value:9.3f}"


def durable(payloads: Iterable[bytes], folder: Path) -> Clock:
    """Writing each payload to a file and waiting until the disk has it."""
    clock = Clock()
    for i, payload in enumerate(payloads):

        def write(payload: bytes = payload, path: Path = folder / f"durable-{i}") -> None:
            with path.open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())

        clock.time(write)
    return clock


def blas_ms_per_multiply_add(dtype: type[np.floating[Any]] = np.float32) -> float:
    """What one multiply-add costs this thread in a large matrix product, at best."""
    a: NDArray[Any] = np.ones((1024, 1024), dtype)
    clock = Clock()
    for _ in range(9):
        clock.time(lambda: a @ a)
    return min(clock.process_ms) / 1024**3


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing by which the machine could be found."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def parser(description: str | None, *, whole: str = "the same: nothing is left out") -> argparse.ArgumentParser:
    """Of a benchmark, with what all of them have; ``whole`` says what the long way is."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--no-history", action="store_true", help="print only")
    made.add_argument("--whole", action="store_true", help=whole)
    return made


def finish(
    name: str, given: argparse.Namespace, began: Mapping[str, Any], packages: Iterable[str], **figures: Any
) -> None:
    """Print under what load the figures came about, and append them to ``history/<name>.json``.

    began : ``machine()`` as it was before the first measurement
    packages : whose versions matter
    """
    load = [began["load"], round(os.getloadavg()[0], 2)]
    print(f"\nload {load[0]} before, {load[1]} after, on {began['cores']} cores ({began['cpu']})")
    if given.no_history:
        return
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": {**began, "load": load},
        "versions": {package: version(package) for package in packages},
        **figures,
    }
    path = _HISTORY / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    history = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*history, entry], indent=1) + "\n")
