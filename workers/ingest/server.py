"""The server that sessions' processes are forked from: they have everything imported and every kernel compiled.

Knows nothing of sessions, and imports nothing heavy: it is begun before the worker itself is loaded.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_PREPARED = ["workers.ingest.prepared"]


def begin_server() -> None:
    """Start it, and do not wait until it is ready; it ends with this process."""
    multiprocessing.set_forkserver_preload(_PREPARED)
    forkserver.ensure_running()


def ready_server() -> ForkServerContext:
    """Start it, unless it was begun, and wait until it is ready."""
    begin_server()
    context = multiprocessing.get_context("forkserver")
    first = context.Process(target=time.time)
    first.start()
    first.join()
    return context
