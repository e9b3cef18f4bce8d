"""A bus that costs its clients a third: what is measured by many of them on one machine is then the server.

Knows nothing of what is sent: logs, queues, leases and their scripts are the service's own, and the server gets from
them what it gets from redis-py. The embedded server only; a command waits for its answer without end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import redis

from mindsight.bus import Bus
from mindsight.bus.servers import URL_FILE, Command, Server, Servers

SCHEME = "unix://"


class LeanBus(Bus):
    """A ``Bus`` on connections of its own: two for each thread, of which one is for commands that wait."""

    def _servers_of(self, url: str, bus_dir: Path | None) -> Servers:
        assert url == "embedded://"
        assert bus_dir is not None
        return cast(Servers, _One((bus_dir / URL_FILE).read_text().strip()))


class _One:
    def __init__(self, url: str) -> None:
        self._server = _LeanServer(unquote(url.removeprefix(SCHEME)))

    def at(self, key: bytes | None) -> Server:
        return cast(Server, self._server)

    def slot(self, key: bytes) -> int:
        return 0

    def primaries(self) -> list[Server]:
        return [self.at(None)]

    def close(self) -> None:
        """Connections end with their threads."""


class _LeanServer:
    def __init__(self, path: str) -> None:
        self._path = path
        self._mine = threading.local()

    def ask(self, commands: Sequence[Command], *, blocking: bool = False) -> list[Any]:
        to_server, from_server = self._connected("patient" if blocking else "ordinary")
        to_server.sendall(b"".join(map(_packed, commands)))
        return [_read(from_server) for _ in commands]

    def _connected(self, name: str) -> tuple[socket.socket, BinaryIO]:
        found: tuple[socket.socket, BinaryIO] | None = getattr(self._mine, name, None)
        if found is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self._path)
            found = connection, connection.makefile("rb")
            setattr(self._mine, name, found)
        return found


def _packed(command: Command) -> bytes:
    """As RESP2 has it."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


def _read(file: BinaryIO) -> Any:
    """One answer; an error as a value, as ``Server.ask`` gives it."""
    line = file.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else file.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return None if rest == b"-1" else [_read(file) for _ in range(int(rest))]
    if rest.startswith(b"NOSCRIPT"):
        return redis.exceptions.NoScriptError(rest.decode())
    if kind == b"-":
        return redis.exceptions.ResponseError(rest.decode())
    raise ConnectionError("the server closed the connection")
