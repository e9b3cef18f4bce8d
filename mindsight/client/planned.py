"""Runs that were started on the dashboard before the scanner's first volume. Knows nothing of scanners."""

from __future__ import annotations

from mindsight.client.console import Console
from mindsight.errors import Diverged


def start_run(console: Console, run: int, *, task: str, tr_s: float, n_volumes: int | None) -> tuple[int, int]:
    """Declare a run as the scanner has it; its number, and the index of the volume that is expected next.

    One of this number that was started with other settings and has no volume is ended, and the next number taken: what
    the scanner does counts, not what was planned. Raises Diverged for one that has volumes.
    """
    while True:
        try:
            return run, console.start_run(run, task=task, tr_s=tr_s, n_volumes=n_volumes)
        except Diverged:
            if console.next_index(run):
                raise
            text = (
                f"run {run} was started with other settings than the scanner's: its volumes are those of run {run + 1}"
            )
            console.warn("run.planned", text, run=run)
            console.end_run(run)
            run += 1
