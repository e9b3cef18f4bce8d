"""The one connection to Redis: explicit timeouts, no hidden retries, its errors translated into ours.

Knows nothing of logs or queues. Replies are those of RESP2 as they are (bytes, integers, lists), so that neither a
newer redis-py nor RESP3 changes what the rest of the room reads.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mindsight.bus.sealed import SealedLogs
from mindsight.errors import BadRequest, BusUnavailable, StorageFull
from mindsight.settings import Settings

MAX_BLOCK_S = 5.0
MIN_VERSION = (7, 0)
REFUSED = "bus.password"
URL_FILE = "url"

Argument: TypeAlias = str | bytes | int | float


@dataclass(frozen=True)
class Script:
    """A Lua script. The server runs it as one step; running it again must be harmless."""

    text: str
    sha1: str = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is how Redis names a script, not a protection.
        object.__setattr__(self, "sha1", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


class Bus:
    """A Redis server, version 7 or newer (or Valkey), connected to when first needed.

    url : ``redis://``, ``rediss://``, ``unix://``; ``embedded://`` is the server of ``bus_dir``, started by
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
        self._url = url
        self._bus_dir = bus_dir
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._address = ""
        self._clients: tuple[redis.Redis, redis.Redis] | None = None
        self._checked = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Bus:
        return cls(settings.redis_url, settings.bus_timeout_s, settings.bus_dir, settings.sealed_dir)

    def ping(self) -> None:
        """Raises BusUnavailable if the server does not answer."""
        self.command("PING")

    def wait_ready(self, deadline_s: float) -> None:
        """Ping until the server answers, or raise the last BusUnavailable after ``deadline_s``, at once if it refused
        the password.
        """
        until = time.monotonic() + deadline_s
        while True:
            try:
                return self.ping()
            except BusUnavailable as error:
                if time.monotonic() >= until or error.code == REFUSED:
                    raise
                time.sleep(0.05)

    def command(self, *args: Argument, block_s: float = 0.0) -> Any:
        """One command's raw reply. ``block_s`` is how long the server itself may wait in it, at most MAX_BLOCK_S."""
        try:
            ordinary, blocking = self._connected()
            client = blocking if block_s > 0 else ordinary
            if not self._checked:
                self._check_version(ordinary)
            return client.execute_command(*args)  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            if str(error).startswith(("MISCONF", "OOM")):
                raise StorageFull(
                    "the bus cannot write, its disk or memory is full: free some", code="bus.full"
                ) from error
            if str(error).startswith(("READONLY", "MASTERDOWN")):
                raise BusUnavailable("the bus accepts no writes now, it is a replica: try again") from error
            if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
                raise _refused() from None
            raise
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError):
            raise _refused() from None
        except redis.exceptions.BusyLoadingError as error:
            raise BusUnavailable("the bus is still loading its data: try again", code="bus.loading") from error
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            self._forget_moved_server()
            reason = "did not answer" if isinstance(error, redis.exceptions.TimeoutError) else "could not be reached"
            raise BusUnavailable(
                f"the bus {reason} within {self._timeout_s:g} s; is it running? (python -m mindsight.bus)"
            ) from error

    def run(self, script: Script, keys: list[str], args: list[Argument]) -> Any:
        """A script's raw reply."""
        try:
            return self.command("EVALSHA", script.sha1, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.command("EVAL", script.text, len(keys), *keys, *args)

    def close(self) -> None:
        with self._lock:
            if self._clients is not None:
                for client in self._clients:
                    client.connection_pool.disconnect()
                self._clients = None

    def _connected(self) -> tuple[redis.Redis, redis.Redis]:
        with self._lock:
            if self._clients is None:
                self._address = self._resolve()
                self._clients = (
                    _client(self._address, self._timeout_s, self._timeout_s),
                    _client(self._address, self._timeout_s, self._timeout_s + MAX_BLOCK_S),
                )
            return self._clients

    def _resolve(self) -> str:
        if self._url != "embedded://":
            return self._url
        try:
            return _url_file(self._bus_dir).read_text().strip()
        except FileNotFoundError:
            raise BusUnavailable("no bus runs for this data folder; start it with: python -m mindsight.bus") from None

    def _forget_moved_server(self) -> None:
        """A restarted embedded server may listen elsewhere: look its address up again."""
        if self._url == "embedded://":
            file = _url_file(self._bus_dir)
            if not file.exists() or file.read_text().strip() != self._address:
                self.close()

    def _check_version(self, client: redis.Redis) -> None:
        info = client.execute_command("INFO", "server")  # type: ignore[no-untyped-call]
        lines = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
        version = tuple(int(part) for part in lines[b"redis_version"].split(b".")[:2])
        if version < MIN_VERSION:
            raise BusUnavailable(
                f"expected Redis 7.0 or newer, got {version[0]}.{version[1]}; upgrade it, or unset MINDSIGHT_REDIS_URL",
                code="bus.version",
            )
        self._checked = True


def _refused() -> BusUnavailable:
    return BusUnavailable(
        "the bus does not accept the user or the password, or needs one: check MINDSIGHT_REDIS_URL", code=REFUSED
    )


def _url_file(bus_dir: Path | None) -> Path:
    if bus_dir is None:
        raise ValueError("an embedded:// bus needs its bus_dir")
    return bus_dir / URL_FILE


def _client(address: str, connect_s: float, answer_s: float) -> redis.Redis:
    try:
        pool = redis.ConnectionPool.from_url(
            address,
            protocol=2,
            socket_connect_timeout=connect_s,
            socket_timeout=answer_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        text = (
            "expected MINDSIGHT_REDIS_URL like redis://:PASSWORD@HOST:6379/0, got one that cannot be read: correct it"
        )
        raise BadRequest(text, code="bus.url") from None
    client = redis.Redis(connection_pool=pool)
    client.response_callbacks.clear()
    return client
