"""What every worker process does around its loop: signals, the bus, one line for an expected error.

Knows nothing of the loops.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable

from mindsight.bus import Bus
from mindsight.errors import MindsightError
from mindsight.settings import Settings, read_settings

BUS_DEADLINE_S = 30.0


def run_process(
    name: str, prepare: Callable[[Settings], None], loop: Callable[[Settings, Bus, threading.Event], None]
) -> int:
    """Prepare, wait for the bus, report ready, run the loop until SIGTERM or Ctrl-C; returns the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = read_settings()
        prepare(settings)
        bus = Bus.from_settings(settings)
        bus.wait_ready(BUS_DEADLINE_S)
        print(f"mindsight {name} ready", flush=True)
        loop(settings, bus, stop)
    except MindsightError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception:  # the last resort of the process: report it and let the supervisor start another
        traceback.print_exc()
        return 2
    return 0
