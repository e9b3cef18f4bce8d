"""Where the bus is, as ``MINDSIGHT_REDIS_URL`` states it.

Knows nothing of connections. One server: ``redis://``, ``rediss://`` (TLS), ``unix://``. A Cluster:
``redis+cluster://[USER]:PASSWORD@HOST:PORT,HOST:PORT/``, some of its nodes. Sentinels:
``redis+sentinel://[USER]:PASSWORD@HOST:PORT,HOST:PORT/SERVICE``, where user and password are the servers' own.
``rediss+...`` is TLS. Options of redis-py may follow, as in ``?ssl_ca_certs=/etc/ca.pem``, and ours:
``sentinel_username``, ``sentinel_password``, ``replicas`` (how many must confirm what is written).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from mindsight.errors import BadRequest

SENTINEL_PORT, PORT = 26379, 6379

Place: TypeAlias = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True)
class Address:
    """One form of bus.

    url : of the one server; with several, ``url_of`` makes each one's
    places : of nodes that may be asked about the others
    login : user and password of the servers, as in a URL, with the "@"
    service : the name by which sentinels know the servers
    sentinel : user and password of the sentinels themselves
    replicas : how many must confirm a write before it counts as written
    """

    form: Literal["one", "cluster", "sentinel"]
    url: str
    places: tuple[Place, ...] = ()
    login: str = ""
    service: str = ""
    sentinel: tuple[str | None, str | None] = (None, None)
    replicas: int = 0

    def url_of(self, place: Place) -> str:
        host, port = place
        return self.url.replace("//", f"//{self.login}{f'[{host}]' if ':' in host else host}:{port}", 1)

    @property
    def shown(self) -> str:
        """Without its password."""
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]


def read_address(url: str) -> Address:
    """Raises BadRequest (``bus.url``), which does not repeat the password."""
    before, _, query = url.partition("?")
    try:
        parts = urlsplit(before)
        scheme, _, form = parts.scheme.partition("+")
        given = dict(parse_qsl(query))
        replicas = int(given.pop("replicas", "0"))
        user, password = given.pop("sentinel_username", None), given.pop("sentinel_password", None)
        options = f"?{urlencode(given)}" if given else ""
        if form == "":
            return Address("one", f"{before}{options}" if replicas else url, replicas=replicas)
        login, at, hosts = parts.netloc.rpartition("@")
        places = tuple(_place(host, SENTINEL_PORT if form == "sentinel" else PORT) for host in hosts.split(","))
        url, service = f"{scheme}:///{options}", unquote(parts.path.strip("/"))
        if form == "cluster" and service in ("", "0"):
            return Address("cluster", url, places, login + at, replicas=replicas)
        if form == "sentinel" and service:
            return Address("sentinel", url, places, login + at, service, (user, password), replicas)
    except ValueError:
        pass
    raise unreadable()


def unreadable() -> BadRequest:
    return BadRequest(
        "expected MINDSIGHT_REDIS_URL like redis://:PASSWORD@HOST:6379/0, redis+cluster://:PASSWORD@HOST:6379,HOST:6379/"
        " or redis+sentinel://:PASSWORD@HOST:26379,HOST:26379/SERVICE, got one that cannot be read: correct it",
        code="bus.url",
    )


def _place(text: str, port: int) -> Place:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(text)
    return parts.hostname, parts.port or port
