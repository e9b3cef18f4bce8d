"""A writer that goes on through failovers of the bus, as the gateway's clients do, and what must be there then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from mindsight.bus import Bus, Log
from mindsight.errors import BusUnavailable
from support.redis_forms import until


def appended_through(url: str, strike: Callable[[], None], blows: int) -> None:
    """Append to the log of session ``s`` while the bus is struck: all that was acknowledged is there once, in order."""
    acknowledged: list[int] = []
    slowest_s: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with closing(Bus(url)) as bus:
            log, index = Log(bus, "s", "input"), 0
            while not stop.is_set():
                began_s = time.monotonic()
                try:
                    log.append(f"volume-{index}", str(index).encode(), order=("run", index))
                except BusUnavailable:
                    time.sleep(0.02)
                else:
                    acknowledged.append(index)
                    index += 1
                slowest_s.append(time.monotonic() - began_s)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(blows):
            n = len(acknowledged)
            until(lambda n=n: len(acknowledged) > n + 50)  # type: ignore[misc]
            strike()
        n = len(acknowledged)
        until(lambda: len(acknowledged) > n + 50)
    finally:
        stop.set()
        writer.join(20.0)
    with closing(Bus(url)) as bus:
        entries = Log(bus, "s", "input").read(limit=10**6)
    written = [int(entry.payload) for entry in entries]
    assert written[: len(acknowledged)] == acknowledged
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert len(entries) - len(acknowledged) <= 1
    print(f"{len(acknowledged)} acknowledged through {blows} failovers, slowest command {max(slowest_s):.2f} s")
