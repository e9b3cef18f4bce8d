"""What a command is doing and how long the rest takes: a live line on a terminal, else a line now and then. On stderr.

Knows nothing of what is done: shares from 0 to 1 are handed in.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EVERY_S, SOON_S = 2.0, 0.5  # between two lines of a file; where the second names something else
_KNOWN = 0.1  # share that must be done before the rest can be estimated


class Progress:
    """``progress(what, done)``: what is done now, and the share of all that is done; at 1 the line ends.

    The time left is from the share and the time so far, unless the caller knows better (``left_s``).

    quiet : nothing is shown, for a command whose result is for a program
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started_s = time.monotonic()
        self._reported_s = -EVERY_S
        self._what = ""
        self._bar: Bar | None = None
        self._until_s: float | None = None

    def __enter__(self) -> Progress:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and not self._quiet:
            self._bar = self._live(console)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def __call__(self, what: str, done: float, left_s: float | None = None) -> None:
        if self._quiet:
            return
        now_s = time.monotonic()
        if left_s is None and _KNOWN < done < 1.0:
            left_s = (now_s - self._started_s) * (1.0 - done) / done
        self._until_s = None if left_s is None else now_s + left_s
        if done >= 1.0:  # the result follows
            self._end()
        elif self._bar is not None:
            self._bar.update(self._task, description=what, completed=done)
        elif now_s - self._reported_s >= (EVERY_S if what == self._what else SOON_S):
            self._reported_s = now_s
            left = self._left(now_s)
            typer.echo(f"{what}, {done:.0%} done{left and f', {left}'}", err=True)
        self._what = what

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _left(self, now_s: float) -> str:
        return "" if self._until_s is None else f"about {time_of(max(1.0, self._until_s - now_s))} left"

    def _live(self, console: Any) -> Bar:
        from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        progress = self

        class Left(ProgressColumn):
            max_refresh = 0.5

            def render(self, task: Task) -> Text:
                now_s = time.monotonic()
                so_far = f"{time_of(now_s - progress._started_s)} so far"  # where the rest cannot be estimated
                return Text(progress._left(now_s) or so_far, "dim")

        columns = (SpinnerColumn(), BarColumn(24), TextColumn("{task.percentage:>3.0f} %"), Left())
        return Bar(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True)


def time_of(seconds: float) -> str:
    """In words that are short: ``40 s``, ``12 min``, ``1.5 h``."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
