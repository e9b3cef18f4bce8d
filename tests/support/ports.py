"""Ports that a test may listen on, now or later, or know to be free."""

from __future__ import annotations

import itertools
import os
import socket

# Below the range from which Linux, macOS and Windows give a port to a connection (32768 and above): a server that is
# stopped and started again would else find its port taken by someone's connection, about once in 28,000.
_FIRST, _EACH, _N_SLICES = 16_000, 1_000, 16
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw") or os.getpid())
_slice = range(_FIRST + _worker % _N_SLICES * _EACH, _FIRST + (_worker % _N_SLICES + 1) * _EACH)
_next = itertools.cycle((*_slice[os.getpid() % _EACH :], *_slice[: os.getpid() % _EACH]))


def free_port() -> int:
    """No two calls of a process get the same, nor do processes of one test run."""
    for port in itertools.islice(_next, _EACH):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue  # someone listens on it
    raise OSError(f"all ports from {_slice[0]} to {_slice[-1]} are taken")
