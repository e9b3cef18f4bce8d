"""The service's processes on one machine: bus, gateway and workers, started together and restarted when one dies.

Knows the processes by module name only, so that the library does not depend on them.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from mindsight.bus import Bus
from mindsight.client.address import gateway_url
from mindsight.errors import BadRequest, Conflict, DeadlineExceeded, MindsightError
from mindsight.processes import ending_with_parent, module_command
from mindsight.settings import Settings, traces_wanted

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 10.0
BUS_DEADLINE_S = 5.0  # for a site's own server to answer before any part is started
LOOK_S = 0.1  # how soon a part that ended is noticed
AFTERWARDS = "ingest-2"  # started once the rest is ready, which does without it
RESTART_PAUSE_S = 1.0  # between two starts of one part: what ends at once is not started without a pause
REFUSED = 1  # exit code of a part that gave its reason in one line; at the start, another attempt would not help
MODULES = {
    "bus": "mindsight.bus",
    "gateway": "service",
    "ingest": "workers.ingest",
    "ingest-2": "workers.ingest",  # sessions of either go on in the other while it is restarted
    "inference": "workers.inference",
    "jobs": "workers.jobs",
    "traces": "workers.traces",
}
USUAL_S = {  # from its start until it is ready
    **{"bus": 0.5, "gateway": 1.5, "traces": 1.0},
    **{"ingest": 4.0, "jobs": 4.0, "inference": 8.0},
}
# one thread per process makes betas reproducible to the bit, and leaves the cores to the processes
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def environment(settings: Settings) -> dict[str, str]:
    """The environment that passes these settings to a child process."""
    values = {
        f"MINDSIGHT_{name.upper()}": str(value) for name, value in settings.model_dump().items() if value is not None
    }
    return {**os.environ, **THREADS, **values, "PYTHONUNBUFFERED": "1"}


@dataclass
class Supervisor:
    """Starts the parts, restarts one that dies, stops them all. One supervisor per data folder, which it locks.

    settings : passed to every part through its environment
    parts : which of ``MODULES``; without the bus if ``settings.redis_url`` names an external server, without the
        traces if nothing names where they go
    announce : receives each line that the gateway prints, at the first start also the keys, which are in no log file
    report : receives what the start waits for, and the share of it that is over
    """

    settings: Settings
    announce: Callable[[str], None] = print
    parts: Sequence[str] = tuple(MODULES)
    report: Callable[[str, float], None] = lambda what, done: None
    restarts: int = 0
    _refused: str | None = None
    _lock_file: int | None = None
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _started_s: dict[str, float] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def logs_dir(self) -> Path:
        return self.settings.data_dir / "logs"

    def start(self) -> str:
        """Start every part and wait until all are ready. Returns the gateway's address.

        Raises Conflict (``service.running``: another supervisor has this data folder; nothing in it is touched),
        BadRequest (``service.data_dir``: no folder can be made there), BusUnavailable (a site's own bus does not
        answer), DeadlineExceeded, MindsightError (``service.start``: a part cannot start, for the reason that it gave).
        """
        self._lock_file = self._locked()
        try:
            self._reach_bus()
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _reach_bus(self) -> None:
        if self.settings.redis_url == "embedded://":
            return
        self.report("reaching the bus", 0.0)
        with closing(Bus.from_settings(self.settings)) as bus:
            bus.wait_ready(BUS_DEADLINE_S)

    def _start(self) -> str:
        self.logs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self.parts:
            (self.logs_dir / f"{part}.log").unlink(missing_ok=True)
        address_file = self.settings.data_dir / "gateway.json"
        address_file.unlink(missing_ok=True)
        has = {"bus": self.settings.redis_url == "embedded://", "traces": traces_wanted()}
        wanted = [part for part in self.parts if has.get(part, True) and part != AFTERWARDS]
        for part in wanted:
            self._spawn(part)
        threading.Thread(target=self._keep_alive, name="supervisor", daemon=True).start()
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            self._report_start(wanted)
            # cheapest first: the gateway is queried once, when all others are ready
            if address_file.exists() and all(self._ready(part) for part in wanted if part != "gateway"):
                url = str(json.loads(address_file.read_text())["url"])
                if self._healthy(url):
                    if AFTERWARDS in self.parts:
                        with self._lock:
                            self._spawn(AFTERWARDS)
                    return url
            if self._refused is not None:
                raise MindsightError(
                    f"{self._refused} could not start: {self._last_line(self._refused)}", code="service.start"
                )
            if self.restarts > 2 * len(wanted):
                break
            time.sleep(0.1)
        raise DeadlineExceeded(
            f"the service did not start within {START_DEADLINE_S:.0f} s; its logs end with: {self._last_lines()}",
            code="service.start",
        )

    def _report_start(self, wanted: Sequence[str]) -> None:
        waited_for = [part for part in wanted if part != "gateway" and not self._ready(part)]
        left_s, total_s = (sum(USUAL_S[part] for part in parts) for parts in (waited_for, wanted))
        self.report(f"starting {', '.join(waited_for) or 'gateway'}", 1.0 - left_s / total_s)

    def stop(self) -> None:
        """Ask every part to stop, the bus last; kill what has not stopped by the deadline."""
        self._stopping.set()
        with self._lock:
            for part in ("traces", "jobs", "inference", "ingest-2", "ingest", "gateway", "bus"):
                process = self._processes.pop(part, None)
                if process is None:
                    continue
                process.terminate()
                try:
                    process.wait(STOP_DEADLINE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(STOP_DEADLINE_S)
        self._stopped.set()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def process(self, part: str) -> subprocess.Popen[bytes]:
        """The running process of one part."""
        with self._lock:
            return self._processes[part]

    def _spawn(self, part: str) -> None:
        self._started_s[part] = time.monotonic()
        with open(self.logs_dir / f"{part}.log", "ab", opener=_for_this_user_alone) as log:
            self._processes[part] = subprocess.Popen(  # noqa: S603
                module_command(MODULES[part]),
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if part == "gateway" else log,
                stderr=log,
                start_new_session=True,
                umask=0o077,  # brains and what people saw are for this user alone
                preexec_fn=ending_with_parent(),
            )
        output = self._processes[part].stdout
        if output is not None:
            threading.Thread(target=self._forward, args=(output,), name="announce", daemon=True).start()

    def _forward(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.announce(line.decode(errors="replace").rstrip())

    def _keep_alive(self) -> None:
        # this thread must outlive the parts it starts: PR_SET_PDEATHSIG follows the thread, not the process
        while not self._stopped.wait(LOOK_S):
            with self._lock:
                if self._stopping.is_set():
                    continue
                for part, process in list(self._processes.items()):
                    if process.poll() is not None and time.monotonic() >= self._started_s[part] + RESTART_PAUSE_S:
                        if process.returncode == REFUSED:
                            self._refused = self._refused or part
                        self.restarts += 1
                        self._spawn_again(part)

    def _spawn_again(self, part: str) -> None:
        """The machine may have no process or no file left for it: it is tried again after the next pause."""
        try:
            self._spawn(part)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"mindsight: {part} cannot be started again: {error}", file=sys.stderr, flush=True)

    def _healthy(self, url: str) -> bool:
        try:
            return httpx.get(f"{url}/v1/health", timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _ready(self, part: str) -> bool:
        return f"mindsight {part} ready" in (self.logs_dir / f"{part}.log").read_text(errors="replace")

    def _last_lines(self) -> str:
        found = [f"{path.stem}: {self._last_line(path.stem)}" for path in sorted(self.logs_dir.glob("*.log"))]
        return "; ".join(found) or "none"

    def _last_line(self, part: str) -> str:
        lines = (self.logs_dir / f"{part}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "its log is empty"

    def _locked(self) -> int:
        """The data folder's lock, held until ``stop`` or the end of this process. Raises Conflict, BadRequest."""
        folder = self.settings.data_dir
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_file = os.open(folder / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadRequest(
                f"expected MINDSIGHT_DATA_DIR to be a folder that can be written, got {folder} ({error.strerror}): name"
                " another, or change who may write there",
                code="service.data_dir",
            ) from None
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_file)
            running = "which is starting"
            with suppress(MindsightError):
                running = gateway_url(folder)
            raise Conflict(
                f"a service for this data folder runs already, {running}: use it, or give this one a folder of its own"
                " (MINDSIGHT_DATA_DIR)",
                code="service.running",
            ) from None
        return lock_file


def _for_this_user_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def wait_for_stop(supervisor: Supervisor) -> None:
    """Wait for Ctrl-C or SIGTERM, then stop every part."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    while not asked.wait(0.5):
        pass
    supervisor.stop()
