"""What every worker process does around its loop: signals, the bus, one line for an expected error.

Knows nothing of the loops.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import mindsight
from mindsight.bus import Bus
from mindsight.errors import MindsightError
from mindsight.journal.presence import BEAT_S, Presence, Worker
from mindsight.printing import outlive_full_logs
from mindsight.processes import share_freed_memory
from mindsight.settings import Settings, read_settings

BUS_DEADLINE_S = 30.0
STORAGE_S = 1.0  # between tries to write to a disk that is full
NICE = 5  # of what nobody waits for: volumes and results come first


def run_process(
    name: str,
    prepare: Callable[[Settings], None],
    loop: Callable[[Settings, Bus, threading.Event], None],
    about: Callable[[], str] = lambda: "CPU",
) -> int:
    """Prepare, wait for the bus, report ready, run the loop until SIGTERM or Ctrl-C; returns the exit code.

    about : where the process computes, asked for after ``prepare``
    """
    share_freed_memory()
    outlive_full_logs()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = read_settings()
        prepare(settings)
        bus = Bus.from_settings(settings)
        bus.wait_ready(BUS_DEADLINE_S, stop)
        if stop.is_set():
            return 0
        print(f"mindsight {name} ready", flush=True)
        with _present(bus, name, about()):
            loop(settings, bus, stop)
    except MindsightError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception:  # the last resort of the process: report it and let the supervisor start another
        traceback.print_exc()
        return 2
    return 0


@contextmanager
def _present(bus: Bus, kind: str, about: str) -> Iterator[None]:
    """Tell the bus that this process is there, until the block ends."""
    presence, ended, started_t = Presence(bus), threading.Event(), time.time()
    name = f"{socket.gethostname()}-{os.getpid()}"

    def beat() -> None:
        while True:
            with suppress(MindsightError):  # the loop uses the same bus, and reports it
                presence.beat(
                    Worker(
                        name=name,
                        kind=kind,
                        version=mindsight.__version__,
                        about=about,
                        started_t=started_t,
                        seen_t=time.time(),
                    )
                )
            if ended.wait(BEAT_S):
                break

    thread = threading.Thread(target=beat, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(MindsightError):
            presence.leave(name)
