"""From a volume to an image on one CUDA card, each part beside its floor and beside the targets, in under 8 minutes.

    python benchmarks/gpu.py [SECTION ...] [--small] [--no-history]

Nothing is downloaded: weights, pool and volumes of the published sizes are drawn at random on the card. Each section
runs in a process of its own with a deadline, and what it has measured by then counts; one that fails loses its own rows
and says why in one line. ``--small`` runs the same code at small size, on the processor where there is no card, to see
that it runs; its times mean nothing and are not kept.

- ceilings: operations per second of a large product in half precision, bytes per second of a copy, and the operations
  of the networks. All floors are operations or bytes over these.
- decoding: voxels to tokens, the ranking of 10,000 candidates at 256 x 1,664, the prior.
- pictures: every preset at 512 and 768 pixels for one and two images, decoded by the tiny autoencoder; eager, and with
  the loop as one CUDA graph. The reference once more as it was published: eager, with the full decoder.
- compiled: the same on the compiled engine. Its first call of a shape compiles (``first s``).
- motion: one volume on the device, from upload to sampled voxels.
- speed_ups: one evaluation of the U-Net as it is, and without each of what makes it fast; and in 8 bits.
- whole: the U-Net compiled as a whole rather than block by block.

A row's time is the median of wall times, each with its own wait for the card.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import report

BUDGET_S, SMALL_BUDGET_S = 465.0, 900.0  # at small size a processor that others use is enough
RESERVED_S = {
    "ceilings": 40.0,
    "decoding": 50.0,
    "pictures": 150.0,
    "compiled": 130.0,
    "motion": 25.0,
    "speed_ups": 70.0,
    "whole": 0.0,
}
"""What is kept for each section. One ends when only what is kept for the later ones is left."""
Rows = dict[str, dict[str, Any]]
HALF_PRECISION = ("eager", "graphed", "compiled")


class Section:
    """A process that measures one part and prints a line of JSON for each row."""

    def __init__(self, name: str, given: Namespace, known: Mapping[str, Any]) -> None:
        command = [sys.executable, "-u", str(report.HERE / "gpu_child.py"), name, json.dumps(known)]
        self.process = subprocess.Popen(
            [*command, *(["--small"] if given.small else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # compilers' own processes end with it
        )
        self.last_error = ""
        self.rows: Rows = {}
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._read_rows, self._read_errors)]
        for reader in self.readers:
            reader.start()

    def run(self, deadline_s: float) -> str | None:
        """Until it has ended. Returns why not everything was measured, in one line."""
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = None
        self._end()
        for reader, stream in zip(self.readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join()
            assert stream is not None
            stream.close()
        if code is None:
            return f"ended at its deadline of {deadline_s:.0f} s"
        return None if code == 0 else f"ended with {code}: {self.last_error}"

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read_rows(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                row = json.loads(line)
                name = row.pop("name")
            except (ValueError, AttributeError, KeyError, TypeError):  # a library's own words
                print(f"  {line.rstrip()}", flush=True)
                continue
            self.rows[name] = row
            print_row(name, row)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.strip():
                self.last_error = line.strip()[:300]


def print_row(name: str, row: Mapping[str, Any]) -> None:
    if "error" in row:
        print(f"  {name:<46} not measured: {row['error']}", flush=True)
        return
    cells = [f"{row['median']:10.3f} ms" if "median" in row else " " * 13]
    if row.get("floor_ms"):
        cells.append(f"{row['median'] / row['floor_ms']:6.1f} x its floor of {row['floor_ms']:.2f}")
    shown = {key: value for key, value in row.items() if key not in ("median", "min", "n", "floor_ms", "value")}
    cells += [f"{key.replace('_', ' ')} {value}" for key, value in shown.items()]
    print(f"  {name:<46}{'  '.join(cells)}".rstrip(), flush=True)


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float, float | None]]:
    """What is asked, the bound, and what was measured, None if it was not. Times in milliseconds."""

    def ms(name: str) -> float | None:
        return rows.get(name, {}).get("median")

    def least(size: str, preset: str) -> dict[str, Any]:
        found = [rows.get(f"{size} px, 1 x {preset}, {engine}", {}) for engine in HALF_PRECISION]
        return dict(min((row for row in found if "median" in row), key=lambda row: row["median"], default={}))

    def floors(row: Mapping[str, Any]) -> float | None:
        return row["median"] / row["floor_ms"] if row.get("floor_ms") and "median" in row else None

    distilled = least("768", "distilled")
    few, many = distilled.get("median"), ms("768 px, 1 x reference, as published")
    same = least("768", "reference").get("median")
    return [
        ("voxels to ranking, ms", 5.0, ms("voxels to ranking")),
        ("prior of 20 steps, times its floor", 2.5, floors(rows.get("prior, 20 steps", {}))),
        ("768 px in 4 steps, ms", 60.0, few),
        ("768 px in 4 steps, times its floor", 2.5, floors(distilled)),
        ("fast at 512 px, ms", 60.0, least("512", "fast").get("median")),
        ("the reference as published, over 4 steps at 768 px (at least)", 15.0, many and few and many / few),
        ("the reference on the best engine, over 4 steps at 768 px (at least)", 15.0, same and few and same / few),
    ]


def print_targets(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The table, and what of it is kept."""
    print("\ntargets")
    kept = {}
    for what, bound, found in targets(rows):
        if found is None:
            verdict = "not measured"
        else:
            met = found >= bound if "at least" in what else found <= bound
            verdict = f"{'met' if met else 'missed'} ({found:.2f}, asked {bound:g})"
        kept[what] = verdict
        print(f"  {what:<70}{verdict}")
    return kept


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(RESERVED_S))
    parser.add_argument("--small", action="store_true", help="small networks, to see that it runs")
    given = parser.parse_args()
    if unknown := set(given.sections) - set(RESERVED_S):
        parser.error(f"expected sections of {', '.join(RESERVED_S)}, got {', '.join(sorted(unknown))}")
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if card is None and not given.small:
        print("no CUDA card here: nothing measured")
        return
    began, started_s = report.machine(), time.monotonic()
    chosen = [name for name in RESERVED_S if name in {"ceilings", *(given.sections or RESERVED_S)}]
    rows: Rows = {}
    problems: dict[str, str] = {}
    known: dict[str, Any] = {}
    for name in chosen:
        budget_s = SMALL_BUDGET_S if given.small else BUDGET_S
        kept_s = sum(RESERVED_S[later] for later in chosen[chosen.index(name) + 1 :])
        left_s = budget_s - kept_s - (time.monotonic() - started_s)
        print(f"\n{name}", flush=True)
        section_s = time.monotonic()
        if left_s > 10.0:
            section = Section(name, given, known)
            problem = section.run(left_s)
            rows |= section.rows
        else:
            problem = "no time left"
        if problem:
            problems[name] = problem
        if name == "ceilings":
            known = {key: row["value"] for key, row in rows.items() if "value" in row}
        print(f"  {name}: {time.monotonic() - section_s:.0f} s{f', {problem}' if problem else ''}", flush=True)
    verdicts = print_targets({} if given.small else rows)  # which are about the published sizes
    print(f"\n{time.monotonic() - started_s:.0f} s in all")
    given.no_history |= given.small or card is None
    packages = [name for name in ("torch", "diffusers") if find_spec(name)]
    report.finish("gpu", given, began, packages, gpu=card, rows=rows, problems=problems, targets=verdicts)


if __name__ == "__main__":
    main()
