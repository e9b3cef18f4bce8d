"""The bus as the rest of the room uses it: commands and scripts within explicit times, errors translated into ours.

Knows nothing of logs or queues, and lets ``mindsight.bus.servers`` find the server that has a key.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
from redis.sentinel import MasterNotFoundError

from mindsight.bus.address import read_address
from mindsight.bus.cluster import Cluster
from mindsight.bus.sealed import SealedLogs
from mindsight.bus.servers import Argument, Command, EmbeddedOne, OneServer, Sentinels, Server, Servers, client_of
from mindsight.errors import BusUnavailable, StorageFull
from mindsight.settings import Settings

REFUSED = "bus.password"
NO_DATABASE = "bus.database"
_PAUSE_S = 0.02  # while a slot is on its way from one node to another


@dataclass(frozen=True)
class Script:
    """A Lua script. The server runs it as one step; running it again must be harmless."""

    text: str
    sha1: str = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is how Redis names a script, not a protection.
        object.__setattr__(self, "sha1", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


class Bus:
    """Redis servers, version 7 or newer (or Valkey), connected to when first needed.

    url : see ``mindsight.bus.address``; ``embedded://`` is the server of ``bus_dir``, started by
        ``python -m mindsight.bus``
    timeout_s : how long connecting, and one command, may take each
    sealed_dir : of the logs to which nothing is added any more; without one, none is sealed

    May be shared between threads. Every method raises BusUnavailable when the server cannot be reached or does not
    answer in time (the command may or may not have been carried out; every one of ours can be repeated), and
    StorageFull when it cannot write.
    """

    def __init__(
        self, url: str, timeout_s: float = 2.0, bus_dir: Path | None = None, sealed_dir: Path | None = None
    ) -> None:
        self.sealed = None if sealed_dir is None else SealedLogs(sealed_dir)
        self._timeout_s = timeout_s
        self._start_it = (
            "mindsight serve starts it" if url == "embedded://" else "check the server of MINDSIGHT_REDIS_URL"
        )
        self._replicas = 0
        self._servers = self._servers_of(url, bus_dir)

    @classmethod
    def from_settings(cls, settings: Settings) -> Bus:
        return cls(settings.redis_url, settings.bus_timeout_s, settings.bus_dir, settings.sealed_dir)

    def ping(self) -> None:
        """Raises BusUnavailable if a server does not answer."""
        self.each("PING")

    def wait_ready(self, deadline_s: float, stop: threading.Event | None = None) -> None:
        """Ping until every server answers, or ``stop`` is set. Raises the last BusUnavailable after ``deadline_s``, at
        once if one refuses the password or has no such database.
        """
        until, stop = time.monotonic() + deadline_s, stop or threading.Event()
        while not stop.is_set():
            try:
                return self.ping()
            except BusUnavailable as error:
                if time.monotonic() >= until or error.code in (REFUSED, NO_DATABASE):
                    raise
                stop.wait(0.05)

    def command(self, *args: Argument, block_s: float = 0.0) -> Any:
        """One command's raw reply. ``block_s`` is how long the server itself may wait in it, at most MAX_BLOCK_S."""
        return self._ask([args], blocking=block_s > 0)[0]

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The raw replies to commands that only read, each of one slot, in one round trip for each server."""
        found: dict[int, Any] = {}
        with self._told():
            places: dict[Server, list[int]] = defaultdict(list)
            for place, command in enumerate(commands):
                places[self._servers.at(_key_of(command))].append(place)
            for server, of_server in places.items():
                with self._lost(server):
                    replies = server.ask([commands[place] for place in of_server])
                found.update(zip(of_server, replies, strict=True))
        return [
            self.command(*commands[place]) if isinstance(found[place], Exception) else found[place]
            for place in range(len(commands))
        ]

    def run(self, script: Script, keys: list[str], args: list[Argument]) -> Any:
        """A script's raw reply. Its keys lie in one slot, as those of any command do."""
        if len({key_slot(key.encode()) for key in keys}) > 1:
            raise ValueError(f"expected keys of one hash slot, got {keys}: a Redis Cluster may keep them apart")
        try:
            return self._write("EVALSHA", script.sha1, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self._write("EVAL", script.text, len(keys), *keys, *args)

    def slot(self, key: str) -> int:
        """A command may name several keys only of one slot; on one server, all are of the same."""
        return self._servers.slot(key.encode())

    def all_keys(self) -> Iterator[bytes]:
        """All keys of the bus."""
        with self._told():
            primaries = self._servers.primaries()
        for server in primaries:
            cursor = b"0"
            while True:
                cursor, keys = self._ask([("SCAN", cursor, "COUNT", 1000)], of=server)[0]
                yield from keys
                if cursor in (b"0", 0):
                    break

    def each(self, *args: Argument, replicas: bool = False) -> list[Any]:
        """The raw replies of all servers, to one that refuses the command the error.

        replicas : whether those that hold copies are asked, too
        """
        with self._told():
            servers = self._servers.primaries() + (self._servers.replicas() if replicas else [])
        found: list[Any] = []
        for server in servers:
            try:
                found += self._ask([args], of=server)
            except redis.exceptions.ResponseError as error:
                found.append(error)
        return found

    def about(self) -> str:
        """What it is connected to, in words."""
        with self._told():
            return self._servers.about()

    def close(self) -> None:
        self._servers.close()

    def _servers_of(self, url: str, bus_dir: Path | None) -> Servers:
        timeout_s = self._timeout_s
        if url == "embedded://":
            if bus_dir is None:
                raise ValueError("an embedded:// bus needs its bus_dir")
            return EmbeddedOne(bus_dir, timeout_s)
        address = read_address(url)
        self._replicas = address.replicas
        if address.form == "cluster":
            return Cluster(address, timeout_s)
        if address.form == "sentinel":
            return Sentinels(address, timeout_s)
        return OneServer(partial(client_of, address.url, timeout_s), timeout_s, address.shown)

    def _write(self, *args: Argument) -> Any:
        if not self._replicas:
            return self._ask([args])[0]
        reply, confirmed = self._ask([args, ("WAIT", self._replicas, round(500 * self._timeout_s))])
        if confirmed < self._replicas:
            raise BusUnavailable(
                f"a write was confirmed by {confirmed} of the {self._replicas} replicas that must: are they running?",
                code="bus.replicas",
            )
        return reply

    def _ask(self, commands: Sequence[Command], *, of: Server | None = None, blocking: bool = False) -> list[Any]:
        """The replies to commands that are sent together, to the server that has the first one's key."""
        with self._told():
            until_s = time.monotonic() + self._timeout_s
            server, before = of or self._servers.at(_key_of(commands[0])), 0
            while True:
                with self._lost(server):
                    replies = server.ask([("ASKING",), *commands] if before else commands, blocking=blocking)[before:]
                error = next((reply for reply in replies if isinstance(reply, Exception)), None)
                if error is None:
                    return replies
                if isinstance(error, redis.exceptions.ClusterDownError | redis.exceptions.ReadOnlyError):
                    self._servers.lost(server)
                if not isinstance(error, _ELSEWHERE) or time.monotonic() > until_s:
                    raise error
                if isinstance(error, redis.exceptions.AskError):
                    moved = isinstance(error, redis.exceptions.MovedError)
                    server = self._servers.redirected(error.host, error.port, server, for_good=moved)
                    before = 0 if moved else 1
                else:
                    time.sleep(_PAUSE_S)

    @contextmanager
    def _lost(self, server: Server) -> Iterator[None]:
        try:
            yield
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            self._servers.lost(server)
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of redis-py as ours."""
        try:
            yield
        except redis.exceptions.OutOfMemoryError as error:
            raise _full() from error
        except _ELSEWHERE as error:
            raise BusUnavailable("the bus is moving its keys to other servers: try again") from error
        except (redis.exceptions.ClusterDownError, redis.exceptions.ReadOnlyError) as error:
            raise BusUnavailable(
                "the bus cannot serve this now, one of its servers is away or being replaced: try again"
            ) from error
        except redis.exceptions.NoPermissionError:
            raise _refused() from None
        except redis.exceptions.ResponseError as error:
            if str(error).startswith("MISCONF"):
                raise _full() from error
            if str(error).startswith("DB index"):
                raise BusUnavailable(
                    "the bus has no database of the number in MINDSIGHT_REDIS_URL: leave it out, or use 0",
                    code=NO_DATABASE,
                ) from None
            if str(error).startswith(("UNBLOCKED", "NOREPLICAS")):
                raise BusUnavailable("the bus accepts no writes now, too few replicas follow it: try again") from error
            raise
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError):
            raise _refused() from None
        except redis.exceptions.BusyLoadingError as error:
            raise BusUnavailable("the bus is still loading its data: try again", code="bus.loading") from error
        except MasterNotFoundError as error:
            raise BusUnavailable(
                "the sentinels of the bus name no primary, or do not answer: is the name in MINDSIGHT_REDIS_URL theirs?"
            ) from error
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            reason = "did not answer" if isinstance(error, redis.exceptions.TimeoutError) else "could not be reached"
            raise BusUnavailable(f"the bus {reason} within {self._timeout_s:g} s: {self._start_it}") from error


_ELSEWHERE = (redis.exceptions.AskError, redis.exceptions.TryAgainError)
_KEYLESS = ("PING", "INFO", "TIME", "CONFIG", "KEYS", "SCAN", "CLUSTER", "BGREWRITEAOF")


def _key_of(command: Command) -> bytes | None:
    """The first key that a command names; all others are of its slot."""
    name = command[0]
    if name in _KEYLESS:
        return None
    if name in ("EVAL", "EVALSHA"):
        place = 3
    elif "STREAMS" in command:
        place = command.index("STREAMS") + 1
    else:
        place = 2 if name in ("XGROUP", "MEMORY") else 1
    key = command[place]
    return key if isinstance(key, bytes) else str(key).encode()


def _full() -> StorageFull:
    return StorageFull("the bus cannot write, its disk or memory is full: free some", code="bus.full")


def _refused() -> BusUnavailable:
    return BusUnavailable(
        "the bus does not accept the user or the password, or needs one: check MINDSIGHT_REDIS_URL", code=REFUSED
    )
