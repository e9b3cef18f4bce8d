"""A durable step fails once, in a process of a running service: the process is killed there, or the disk is full.

``armed_environment`` makes every Python process of a service look, at each of STEPS, whether a file names its part
and this step, and lets it fail then, once. Nothing of it is in the product.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "FAIL_POINT"  # environment variable: path of the file that names the point
TESTS = Path(__file__).resolve().parents[1]
MODES = ("kill", "error", "full")
# what a process writes, part by part: payload, its name; the log; the snapshot; the archive's folder
STEPS = {
    "gateway": ("sync_file", "rename_durably", "append"),
    "ingest": ("sync_file", "rename_durably", "append", "_replace"),
    "inference": ("sync_file", "rename_durably", "append", "ack"),
    "archive": ("publish_folder", "append"),
}
_MODULES = {"service": "gateway", "workers.inference": "inference", "workers.jobs.archive": "archive"}


@dataclass(frozen=True)
class Point:
    """Where and how it fails: ``nth`` call of ``step`` in ``part`` from now on, before or after it was done."""

    part: str
    step: str
    after: bool
    mode: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.mode} {'after' if self.after else 'before'} {self.part} {self.step} {self.nth}"


def every_point() -> list[Point]:
    return [
        Point(part, step, after, mode, nth=2 if part in ("gateway", "ingest") else 1)
        for part, steps in STEPS.items()
        for step in steps
        for after in (False, True)
        for mode in MODES
    ]


@contextmanager
def armed_environment(folder: Path) -> Iterator[Path]:
    """Processes that are started within it can fail; the file that names the point."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text("from support.fail_points import arm\n\narm()\n")
    kept = {name: os.environ.get(name) for name in ("PYTHONPATH", FILE)}
    paths = [str(folder), str(TESTS), str(TESTS.parent), *filter(None, [kept["PYTHONPATH"]])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ[FILE] = str(folder / "point.json")
    try:
        yield folder / "point.json"
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def part_of_this_process() -> str | None:
    words = list(sys.orig_argv)
    if "multiprocessing.forkserver" in " ".join(words):
        return "ingest"
    module = words[words.index("-m") + 1] if "-m" in words else ""
    return _MODULES.get(module)


def arm() -> None:
    """Put a look at the file before and after each step of this process's part."""
    part = part_of_this_process()
    if part is None or FILE not in os.environ:
        return
    from mindsight.bus import queue
    from mindsight.bus.connection import Bus
    from mindsight.bus.log import APPEND
    from mindsight.files import durable

    looking = _Looking(Path(os.environ[FILE]), part)
    for step in STEPS[part]:
        if hasattr(durable, step):
            setattr(durable, step, looking.around(step, getattr(durable, step)))
    run, scripts = Bus.run, {APPEND.sha1: "append", queue._ACK.sha1: "ack"}

    def looked(self: Bus, script: Any, keys: list[str], args: list[Any]) -> Any:
        step = scripts.get(script.sha1)
        return run(self, script, keys, args) if step is None else looking.around(step, run)(self, script, keys, args)

    Bus.run = looked  # type: ignore[method-assign]


class _Looking:
    def __init__(self, file: Path, part: str) -> None:
        self._file = file
        self._part = part
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def around(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def with_a_look(*args: Any, **kwargs: Any) -> Any:
            self._look(step, after=False)
            result = call(*args, **kwargs)
            self._look(step, after=True)
            return result

        return with_a_look

    def _look(self, step: str, *, after: bool) -> None:
        try:
            content = self._file.read_text()
        except FileNotFoundError:
            return
        point = Point(**json.loads(content))
        if (point.part, point.step, point.after) != (self._part, step, after):
            return
        with self._lock:
            self._counts[content] = self._counts.get(content, 0) + 1
            if self._counts[content] < point.nth:
                return
            try:
                self._file.rename(self._file.with_suffix(".fired"))
            except FileNotFoundError:  # another process was there first
                return
        _fail(point)


def _fail(point: Point) -> None:
    from mindsight.errors import BusUnavailable, StorageFull

    if point.mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60.0)
    if point.step in ("append", "ack"):
        raise BusUnavailable("a test") if point.mode == "error" else StorageFull("a test", code="bus.full")
    raise OSError(errno.EIO if point.mode == "error" else errno.ENOSPC, "a test")


def fail_at(file: Path, point: Point) -> None:
    """Let the next process that gets there fail."""
    file.with_suffix(".fired").unlink(missing_ok=True)
    written = file.with_suffix(".new")
    written.write_text(json.dumps(asdict(point)))
    written.rename(file)


def has_failed(file: Path) -> bool:
    """Whether the point was reached; it is taken back if not."""
    with suppress(FileNotFoundError):
        file.unlink()
    return file.with_suffix(".fired").exists()


def try_points(folder: Path, points: Sequence[Point], port: int) -> tuple[list[str], list[str]]:
    """A session for each point, through a whole service: (what does not hold, points that no process reached)."""
    from support import chaos

    runs, faults, unreached = chaos.short_visit(), [], []
    with armed_environment(folder / "armed") as file, chaos.served(folder / "data", port) as service:
        with service.console(folder / "spool") as console:
            subject = console.enrol("demo")
        truth: list[Any] = []
        for number, point in enumerate([None, *points]):
            session, acks = f"point-{number}", {}
            console = service.console(folder / "spool")
            chaos.insist(lambda console=console, session=session: console.open_session(subject, session=session))
            if point is not None:
                fail_at(file, point)
            chaos.play(console, runs, 0.0, acks)
            found = chaos.Found()
            messages = service.archived(session)[1]
            truth = truth or messages
            chaos.compare(service, session, runs, acks, truth, found)
            if point is not None:
                faults += [f"{point}: {fault}" for fault in found.faults]
                unreached += [] if has_failed(file) else [str(point)]
    return faults, unreached
