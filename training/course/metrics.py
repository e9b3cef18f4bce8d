"""The course of a run: one JSON object a step in ``metrics.jsonl``, and a line now and then for whoever waits.

Knows nothing of networks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindsight.files.durable import write_whole

REPORT_EVERY_S = 10.0


class Metrics:
    """The file of one run. Steps after the one that it continues from are removed: they are made again."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_lines(path) if int(json.loads(line)["step"]) <= step]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        print(json.dumps({"step": step, **figures}), file=self._file, flush=True)

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file: a kill may have cut the last one. None if it is not there."""
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return whole


class Progress:
    """Prints the step, its loss and the time left, every few seconds.

    first : step that this process begins after; now_s : the time
    """

    def __init__(self, first: int, steps: int, now_s: float) -> None:
        self._first, self._steps, self._started_s, self._printed_s = first, steps, now_s, now_s

    def __call__(self, step: int, loss: float, now_s: float) -> None:
        if now_s - self._printed_s < REPORT_EVERY_S and step != self._steps:
            return
        self._printed_s = now_s
        left_s = (self._steps - step) * (now_s - self._started_s) / (step - self._first)
        print(
            f"step {step:,} of {self._steps:,}, loss {loss:.5f}, {time_left(left_s)} left", file=sys.stderr, flush=True
        )


def time_left(seconds: float) -> str:
    """ "2 h 05 min", "12 min", "40 s"."""
    minutes = round(seconds / 60.0)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90.0 else f"{seconds:.0f} s"
