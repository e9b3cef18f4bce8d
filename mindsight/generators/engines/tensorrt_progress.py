"""How far TensorRT's builder is, as one number. It reports phases within phases, each of a number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NOTICEABLE = 0.01


class Phases:
    """The phases that are open now, outermost first, and the share of the whole that they amount to."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int, int]] = []  # name, steps, steps done
        self._furthest = 0.0

    def start(self, name: str, steps: int) -> None:
        self._open.append((name, max(steps, 1), 0))

    def step(self, name: str) -> None:
        self._open = [(n, steps, done + (n == name)) for n, steps, done in self._open]

    def finish(self, name: str) -> None:
        names = [n for n, _, _ in self._open]
        if name in names:
            del self._open[names.index(name) :]

    @property
    def share(self) -> float:
        """0 to 1; never less than it was."""
        share, part = 0.0, 1.0
        for _, steps, done in self._open:
            part /= steps
            share += min(done, steps) * part
        self._furthest = max(self._furthest, min(share, 1.0))
        return self._furthest


def progress_monitor(trt: Any, report: Callable[[float], None]) -> Any:
    """TensorRT's own kind of monitor, which reports the share that is done.

    trt : the module
    """
    phases = Phases()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            before = phases.share
            phases.step(phase_name)
            if phases.share >= before + _NOTICEABLE:
                report(phases.share)
            return True

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
