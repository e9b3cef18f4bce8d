"""Reading and assembling one live volume of 2 mm, format by format: what it costs, and what it cost before.

    python benchmarks/bench_reading.py [--before CHECKOUT] [--volumes 20] [--rounds 3] [--whole] [--no-history]

A volume (104 x 104 x 66, TR 1.5 s, made up at random) goes from the bytes of its file or messages through the reader
and the assembler, as behind a socket or a watched folder; sending it is no part of the figure. With ``--before`` the
same volumes are read by an older checkout in the same run, in turn: "before" and "more" say what it took and how much
more it takes now, at the median of processor time and at its 99th percentile. The bound is that of the median.

The floor is a copy of the volume's voxels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import report
import scanner_files as made

BOUND_MS = 5.0
CHILD = Path(__file__).with_name("reading_child.py")
HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = report.parser(__doc__, whole="five times as many volumes")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    began = report.machine()
    checkouts = {"now": HERE} | ({"before": given.before.resolve()} if given.before else {})
    times: dict[str, dict[str, report.Clock]] = {name: {} for name in checkouts}
    for _ in range(given.rounds):
        for name, checkout in checkouts.items():
            _measure(checkout, given.volumes * (5 if given.whole else 1), times[name])
    floor_ms = _copied_ms()
    rows = {
        name: {"n": len(clock.wall_ms), **clock.figures(), "floor": floor_ms} for name, clock in times["now"].items()
    }
    report.print_table("reading and assembling a volume of 2 mm", rows)
    before = {name: clock.figures() for name, clock in times.get("before", {}).items()}
    differences = _differences(rows, before) if given.before else {}
    report.finish(
        "reading", given, began, ("numpy", "nibabel", "pydicom"), formats=rows, before=before, more=differences
    )
    above = [name for name, more in differences.items() if more["process"] > BOUND_MS]
    if above:
        sys.exit(f"more than {BOUND_MS:g} ms more than before: {', '.join(above)}")


def _measure(checkout: Path, n_volumes: int, into: dict[str, report.Clock]) -> None:
    """In a process of its own, with that checkout before all else on the path."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(CHILD), str(n_volumes)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if Path(found["path"]) != checkout:
        sys.exit(f"expected to measure {checkout}, got what lies in {found['path']}")
    for name, times in found["times"].items():
        clock = into.setdefault(name, report.Clock())
        clock.wall_ms += times["wall_ms"]
        clock.process_ms += times["process_ms"]


def _copied_ms() -> float:
    clock, volume = report.Clock(), made.planes(0)
    for _ in range(20):
        clock.time(volume.copy)
    return round(float(np.median(clock.wall_ms)), 3)


def _differences(now: dict[str, Any], before: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Printed, and given back: what a volume takes more than before, by the processor's time."""
    width = max(map(len, now)) + 2
    print(f"\n{'cpu, ms':<{width}}{'before':>9} {'now':>9} {'more':>9} {'bound':>9} {'more p99':>9}")
    found: dict[str, dict[str, float]] = {}
    for name, row in now.items():
        if name not in before:
            print(f"{name:<{width}}{'new':>9} {row['process']:9.3f}")
            continue
        found[name] = {key: round(row[key] - before[name][key], 3) for key in ("process", "process_p99")}
        figures = (
            before[name]["process"],
            row["process"],
            found[name]["process"],
            BOUND_MS,
            found[name]["process_p99"],
        )
        print(f"{name:<{width}}" + " ".join(f"{figure:9.3f}" for figure in figures))
    return found


if __name__ == "__main__":
    main()
