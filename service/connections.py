"""Connections, before any request: each has to ask for something in time, and there are only so many.

Knows nothing of requests. Sockets of consoles and watchers stay open for hours; one that never asks for anything would
keep a file of the process, of which there are few, for as long as it likes.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0  # from the first byte, or from the connection, until the headers are complete
RESERVED_FILES = 200  # for blobs, logs and the bus
MAX_CONNECTIONS = 4096


class BoundedConnections(H11Protocol):
    """uvicorn's own protocol, with a deadline for the headers of every request and a limit on connections."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            transport.close()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits:
            self._expect_request()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    @property
    def _waits(self) -> bool:
        """Whether no request is being handled, and the connection has not become a WebSocket's."""
        return self.transport.get_protocol() is self and (self.cycle is None or self.cycle.response_complete)

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if self._waits:
            self.transport.close()


def max_connections() -> int:
    """As many as the process may have files, less those that it needs itself."""
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES)


def allow_files() -> None:
    """As many open files as this user may have: the usual limit of 1,024 is a limit on watchers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
