"""The servers that make up a bus, and which of them has a key: one server, or the one that sentinels name.

Knows nothing of logs or queues. Replies are those of RESP2 as they are (bytes, integers, lists), so that neither a
newer redis-py nor RESP3 changes what the rest of the room reads. The form of many servers: ``mindsight.bus.cluster``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from mindsight.bus.address import Address, Place, unreadable
from mindsight.errors import BadRequest, BusUnavailable

MAX_BLOCK_S = 5.0
MIN_VERSION = (7, 0)
URL_FILE = "url"

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = Sequence[Argument]


class Server:
    """One server, connected to when first needed. May be shared between threads.

    make : a client whose answers may take so many seconds
    mode : what the server must call itself: ``standalone`` or ``cluster``
    """

    def __init__(
        self, make: Callable[[float], redis.Redis], timeout_s: float, mode: str = "standalone", host: str = ""
    ) -> None:
        self.host = host
        self._make = make
        self._timeout_s = timeout_s
        self._mode = mode
        self._lock = threading.Lock()
        self._clients: tuple[redis.Redis, redis.Redis] | None = None
        self._checked = False

    def ask(self, commands: Sequence[Command], *, blocking: bool = False) -> list[Any]:
        """The raw replies to commands, sent together; to one that is refused, the error.

        blocking : whether the server itself may wait up to MAX_BLOCK_S in it

        Raises the connection errors of redis-py, and BusUnavailable, BadRequest if the server is not what was expected.
        """
        ordinary, patient = self._connected()
        client = patient if blocking else ordinary
        if not self._checked:
            self._check(ordinary)
        if len(commands) == 1:
            try:
                return [client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            except redis.exceptions.ResponseError as error:
                return [error]
        together = client.pipeline(transaction=False)
        for command in commands:
            together.execute_command(*command)  # type: ignore[no-untyped-call]
        return together.execute(raise_on_error=False)

    def about(self) -> str:
        """Name and version."""
        found = self._info(self._connected()[0])
        name = found.get(b"server_name", b"redis").decode()
        return f"{name} {found.get(f'{name}_version'.encode(), found[b'redis_version']).decode()}"

    def drop_idle(self) -> None:
        """Connections that wait to be used again."""
        for client in self._clients or ():
            client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        with self._lock:
            for client in self._clients or ():
                client.connection_pool.disconnect()
            self._clients = None

    def _connected(self) -> tuple[redis.Redis, redis.Redis]:
        with self._lock:
            if self._clients is None:
                self._clients = self._make(self._timeout_s), self._make(self._timeout_s + MAX_BLOCK_S)
                for client in self._clients:
                    client.response_callbacks.clear()
            return self._clients

    def _check(self, client: redis.Redis) -> None:
        found = self._info(client)
        version = tuple(int(part) for part in found[b"redis_version"].split(b".")[:2])
        if version < MIN_VERSION:
            raise BusUnavailable(
                f"expected Redis 7.0 or newer, got {version[0]}.{version[1]}; upgrade it, or unset MINDSIGHT_REDIS_URL",
                code="bus.version",
            )
        mode = found.get(b"redis_mode", found.get(b"server_mode", self._mode.encode())).decode()
        if mode != self._mode:
            raise BadRequest(
                f"expected a {self._mode} server, got a {mode} one: begin MINDSIGHT_REDIS_URL with {_SCHEME[mode]}",
                code="bus.url",
            )
        self._checked = True

    def _info(self, client: redis.Redis) -> dict[bytes, bytes]:
        info = client.execute_command("INFO", "server")  # type: ignore[no-untyped-call]
        return dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)


_SCHEME = {"standalone": "redis://", "cluster": "redis+cluster://", "sentinel": "redis+sentinel://"}


class Servers(Protocol):
    """All servers of a bus. May be shared between threads."""

    def at(self, key: bytes | None) -> Server:
        """The server that has this key; any one for a command without a key."""

    def slot(self, key: bytes) -> int:
        """Commands may name several keys only of one slot."""

    def primaries(self) -> list[Server]:
        """Those that together have every key."""

    def replicas(self) -> list[Server]: ...

    def redirected(self, host: str, port: int, by: Server, *, for_good: bool) -> Server:
        """Where a server sent us. for_good : whether all of the slot is there now"""

    def lost(self, server: Server) -> None:
        """It did not answer, or answered that it cannot serve: look again where things are."""

    def about(self) -> str:
        """What it is, in words, without a password."""

    def close(self) -> None: ...


class OneServer:
    """One server that is told by its address."""

    def __init__(self, make: Callable[[float], redis.Redis], timeout_s: float, shown: str) -> None:
        self.server = Server(make, timeout_s)
        self._shown = shown

    def at(self, key: bytes | None) -> Server:
        return self.server

    def slot(self, key: bytes) -> int:
        return 0

    def primaries(self) -> list[Server]:
        return [self.server]

    def replicas(self) -> list[Server]:
        """Those of one server are not known to us."""
        return []

    def redirected(self, host: str, port: int, by: Server, *, for_good: bool) -> Server:
        raise BusUnavailable("the bus belongs to a Redis Cluster: begin MINDSIGHT_REDIS_URL with redis+cluster://")

    def lost(self, server: Server) -> None:
        pass

    def about(self) -> str:
        return f"{self.server.about()} at {self._shown}"

    def close(self) -> None:
        self.server.close()


class EmbeddedOne(OneServer):
    """The server of a data folder, which may listen elsewhere after a restart."""

    def __init__(self, bus_dir: Path, timeout_s: float) -> None:
        self._file = bus_dir / URL_FILE
        self._url = ""
        self._timeout_s = timeout_s
        super().__init__(self._client, timeout_s, "its own socket")

    def lost(self, server: Server) -> None:
        if not self._file.exists() or self._file.read_text().strip() != self._url:
            server.close()

    def _client(self, answer_s: float) -> redis.Redis:
        try:
            self._url = self._file.read_text().strip()
        except FileNotFoundError:
            raise BusUnavailable("no bus runs for this data folder; start it with: python -m mindsight.bus") from None
        return client_of(self._url, self._timeout_s, answer_s)


class Sentinels(OneServer):
    """The server that sentinels name as primary. They are asked for each new connection."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._service = address.service
        self._options = _options(address.url_of(address.places[0]))
        tls = {name: value for name, value in self._options.items() if name.startswith("ssl")}
        user, password = address.sentinel
        each_s = timeout_s / len(address.places)  # so that all of them have been asked within a command's time
        self._sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            address.places,
            sentinel_kwargs={**tls, **_bounds(each_s, each_s), "username": user, "password": password},
        )
        self._timeout_s = timeout_s
        self._replicas: dict[Place, Server] = {}
        super().__init__(self._primary, timeout_s, "")

    def replicas(self) -> list[Server]:
        found: list[Place] = self._sentinel.discover_slaves(self._service)
        return [self._replicas.setdefault(place, Server(partial(self._at, place), self._timeout_s)) for place in found]

    def lost(self, server: Server) -> None:
        server.drop_idle()  # they lead to the server that was the primary

    def about(self) -> str:
        host, port = self._sentinel.discover_master(self._service)
        named = f"the primary of {self._service} by its sentinels, replicas: {len(self.replicas())}"
        return f"{self.server.about()} at {host}:{port}, {named}"

    def close(self) -> None:
        for server in (self.server, *self._replicas.values()):
            server.close()
        for asked in self._sentinel.sentinels:
            asked.close()

    def _at(self, place: Place, answer_s: float) -> redis.Redis:
        host, port = place
        return redis.Redis(host=host, port=port, **self._options, **_bounds(self._timeout_s, answer_s))

    def _primary(self, answer_s: float) -> redis.Redis:
        client: redis.Redis = self._sentinel.master_for(
            self._service, **self._options, **_bounds(self._timeout_s, answer_s)
        )
        return client


def client_of(url: str, connect_s: float, answer_s: float) -> redis.Redis:
    """Raises BadRequest (``bus.url``)."""
    try:
        return redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, **_bounds(connect_s, answer_s)))
    except ValueError:
        raise unreadable() from None


def _bounds(connect_s: float, answer_s: float) -> dict[str, Any]:
    """Explicit time limits, and no hidden retry."""
    return {
        "protocol": 2,
        "socket_connect_timeout": connect_s,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),
    }


def _options(url: str) -> dict[str, Any]:
    """Login, TLS and whatever else the URL states, without its place."""
    try:
        found = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        raise unreadable() from None
    tls = found.pop("connection_class", None) is redis.SSLConnection
    for name in ("host", "port"):
        found.pop(name, None)
    return {**found, "ssl": True} if tls else found
