"""Ingest workers that are paused until others have their sessions, and what they write when they go on: nothing.

All of a worker is stopped at once: itself, its server of processes and the process of each session, wherever it is in
the middle of. Its successor processes what comes; then it goes on, with what it had in hand and all that came since.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mindsight.protocol import VolumeProcessed
from support.chaos import Found, Kill, Service, disturbed, led_by
from support.proc import children, is_running

WORKERS = ("ingest", "ingest-2")
ROUND_S = 12.0  # a lease of 6 s, and what it takes to go on
DEADLINE_S = 60.0


def try_zombies(folder: Path, n: int, n_sessions: int, port: int) -> Found:
    """Make at least ``n`` of them, one for each session that a paused worker led.

    ``blows`` counts them as ``zombie``, and as ``fenced`` those whose process ended by itself after it went on. That
    they wrote nothing follows from the comparison with a session that nothing disturbed.
    """

    def strike(service: Service, sessions: Sequence[str], found: Found) -> Sequence[Kill]:
        while found.blows["zombie"] < n:
            _round(service, sessions, found)
        return []

    return disturbed(folder, port, n_sessions, ROUND_S * -(-n // n_sessions), strike)


def _round(service: Service, sessions: Sequence[str], found: Found) -> None:
    pids = {part: service.supervisor.process(part).pid for part in WORKERS}
    led = {part: led_by(service, pid, sessions) for part, pid in pids.items()}
    part = max(WORKERS, key=lambda one: len(led[one]))
    (other,) = set(WORKERS) - {part}
    if not led[part]:
        time.sleep(0.5)
        return
    zombies = [pid for server in children().get(pids[part], []) for pid in children().get(server, [])]
    os.killpg(pids[part], signal.SIGSTOP)
    try:
        _wait(lambda: set(led[part]) <= set(led_by(service, pids[other], sessions)))
        n_before = {session: _n_processed(service, session) for session in led[part]}
        _wait(lambda: all(_n_processed(service, session) > n for session, n in n_before.items()))
    finally:
        os.killpg(pids[part], signal.SIGCONT)
    found.blows["zombie"] += len(zombies)
    _wait(lambda: not any(is_running(pid) for pid in zombies))
    found.blows["fenced"] += len(zombies)


def _n_processed(service: Service, session: str) -> int:
    return sum(isinstance(message, VolumeProcessed) for message in service.read(session)[1])


def _wait(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not done():
        if time.monotonic() > until_s:
            raise TimeoutError(f"no end after {DEADLINE_S:g} s")
        time.sleep(0.2)
