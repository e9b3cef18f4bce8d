"""What is done to a part of a running service: killed, asked to end, stopped for a while, starved of the processor."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from support.proc import children

Kind = Literal["kill", "restart", "pause", "starve"]
SHARES: dict[Kind, float] = {"pause": 0.15, "starve": 0.08, "restart": 0.07}  # of all blows; the rest are kills
STARVED_S, FED_S = 0.18, 0.02  # of each 0.2 s: a tenth of what there is


def kind_of(share: float) -> Kind:
    """The kind of a blow from a number between 0 and 1."""
    for kind, of_all in SHARES.items():
        if share < of_all:
            return kind
        share -= of_all
    return "kill"


def strike(pid: int, kind: Kind, for_s: float) -> threading.Thread | None:
    """Strike the part whose first process this is. for_s : how long it is paused or starved, in the thread returned

    Its first process alone is paused, so that its others go on; of the bus that is its server (``tree``). All of its
    processes are starved. Raises ProcessLookupError if there is none.
    """
    if kind in ("kill", "restart"):
        os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        return None
    pids = tree(pid) if kind == "starve" else [pid]
    thread = threading.Thread(target=_starve if kind == "starve" else _pause, args=(pids, for_s))
    thread.start()
    return thread


def tree(pid: int) -> list[int]:
    """The process and all that it and its children have started."""
    of, found = children(), [pid]
    for one in found:
        found += of.get(one, [])
    return found


def _pause(pids: Iterable[int], for_s: float) -> None:
    _send(pids, signal.SIGSTOP)
    time.sleep(for_s)
    _send(pids, signal.SIGCONT)


def _starve(pids: Iterable[int], for_s: float) -> None:
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        _pause(pids, STARVED_S)
        time.sleep(FED_S)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
