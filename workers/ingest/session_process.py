"""One session in a process of its own: no other session delays its volumes, and what ends it ends no other.

Knows nothing of other sessions. The worker holds the lease and renews it; this process writes under it.
"""

from __future__ import annotations

import enum
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from mindsight.blobs import open_blobs
from mindsight.bus import Bus, Fence, Lease, WorkQueue, read_many
from mindsight.errors import LeaseLost, MindsightError
from mindsight.files.digest import sha256_of
from mindsight.journal.read import Journal
from mindsight.printing import outlive_full_logs
from mindsight.protocol.messages import Warned, dump_message
from mindsight.settings import read_settings

if TYPE_CHECKING:
    from workers.ingest.runner import SessionRunner

BLOCK_S = 0.25
PAGE = 64
MEMORY_SHARE = 0.6  # of the machine's, for one session


class Ended(enum.IntEnum):
    """Exit codes. Every other one means that the process was ended."""

    STOPPED = 0
    CLOSED = 10  # the session is closed, and everything of it is written
    LEASE_LOST = 11
    REFUSED = 12  # the session cannot be led: its bundle is missing, for one
    LATER = 13  # the machinery failed: bus, disk
    FAULT = 14  # an entry raised an error that is not ours, and is in quarantine


class Position(Protocol):
    """Shared with the worker: number of the entry that is being applied, 0 between entries."""

    value: int


def lead(session: str, holder: str, ttl_s: float, token: int, position: Position) -> None:
    """Lead a session until it is closed or SIGTERM; ends the process with one of ``Ended``.

    holder, ttl_s, token : of the lease, under which everything is written
    """
    outlive_full_logs()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C goes to the worker too, which then stops this
    _end_with_the_worker()
    _bound_memory()
    from workers.ingest.runner import SessionRunner  # loaded before the fork; the worker itself does without

    settings = read_settings()
    bus = Bus.from_settings(settings)
    lease = Lease(bus, session, holder, ttl_s, Fence(session, token))
    try:
        runner = SessionRunner.resume(session, lease, bus, open_blobs(settings), WorkQueue(bus, "inference"), settings)
        ended = follow(runner, position, stop)
    except MindsightError as error:
        print(f"ingest: session {session}: {error}", file=sys.stderr, flush=True)
        if isinstance(error, LeaseLost):
            ended = Ended.LEASE_LOST
        else:
            ended = Ended.LATER if error.is_transient else Ended.REFUSED
            if ended is Ended.REFUSED:
                _report(lease, error)
    except Exception:
        print(f"ingest: session {session} is resumed from its snapshot after this fault:", file=sys.stderr)
        traceback.print_exc()
        ended = Ended.FAULT
    sys.exit(ended)


def follow(runner: SessionRunner, position: Position, stop: threading.Event) -> Ended:
    """Apply what comes, and use idle time for what no beta waits for."""
    while not stop.is_set():
        found = read_many({runner.inputs: runner.position}, BLOCK_S, PAGE)
        for entry in found.get(runner.inputs, []):
            position.value = entry.seq
            runner.take(entry)
            position.value = 0
            if runner.closed:
                return Ended.CLOSED
            if stop.is_set():
                break
        if found:
            runner.tidy()
        if len(found.get(runner.inputs, [])) < PAGE:  # who looks waits for those who are scanned
            runner.look_up()
    runner.save()
    return Ended.STOPPED


def _end_with_the_worker() -> None:
    """This process's parent is the server of processes, which outlives a worker that is killed as long as this does."""
    worker = multiprocessing.parent_process()
    assert worker is not None

    def follow() -> None:
        worker.join()
        os._exit(Ended.STOPPED)  # as by a kill: what is written is in the log and in the snapshot

    threading.Thread(target=follow, name="worker", daemon=True).start()


def _report(lease: Lease, error: MindsightError) -> None:
    """Once in the session's messages: people who wait for its betas read no worker's log."""
    text = f"the session cannot be processed, and is tried again every few seconds: {error}"
    message = Warned(session=lease.session, t=time.time(), code=error.code, text=text, level="error")
    with suppress(MindsightError):
        Journal(lease.bus, lease.session).messages.append(
            f"refused-{sha256_of(text.encode())}", dump_message(message), identity=text, fence=lease.fence
        )


def _bound_memory() -> None:
    """A session that asks for more fails on its own entry, and the machine lives."""
    if sys.platform == "linux":
        limit = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
