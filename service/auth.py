"""The caller of a route and its permissions: one dependency, ``require``, on every route.

Knows nothing of sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from mindsight.errors import NotAllowed
from service.audit import CALLER
from service.keys import Key, KeyStore, Scope
from service.rates import TooMany

if TYPE_CHECKING:
    from service.context import Gateway

PROTOCOL = "mindsight.v1"
TICKET_PROTOCOL = "mindsight.ticket."
_FOR_ANY_SESSION = {("POST", "/v1/images"), ("GET", "/v1/keys/own")}


class Forbidden(NotAllowed):
    """A valid key without the scope."""

    code = "auth.scope"


@dataclass(frozen=True)
class Caller:
    """The caller. ``subprotocol`` : what the response to a WebSocket's handshake must name."""

    key: Key
    subprotocol: str | None = None

    @property
    def sees_truth(self) -> bool:
        return "truth:read" in self.key.scopes


def require(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that lets a caller with any of these scopes through. Raises NotAllowed (401), Forbidden (403)."""

    async def dependency(connection: HTTPConnection) -> Caller:  # a thread for it would cost more than all of it
        caller = _counted(connection)
        if not caller.key.scopes.intersection(scopes):
            raise Forbidden(
                f"expected a key with the scope {' or '.join(scopes)}, got one without; ask for another key",
                role=caller.key.role,
            )
        _check_session(connection, caller.key)
        return caller

    dependency.scopes = scopes  # type: ignore[attr-defined]  # the test that walks the routes looks for it
    return dependency


def _check_session(connection: HTTPConnection, key: Key) -> None:
    """A key of one session opens what is below that session's address, and takes images that it will show."""
    if key.session in (None, connection.path_params.get("session")):
        return
    if (connection.scope.get("method"), connection.scope["path"]) not in _FOR_ANY_SESSION:
        raise Forbidden(
            "expected a key for this address, got one for a single session; ask for another key",
            code="auth.session",
            session=key.session,
        )


def _counted(connection: HTTPConnection) -> Caller:
    """The caller, unless it asks too often. A wrong key is looked at first: it never keeps a right one out."""
    gateway: Gateway = connection.app.state.gateway
    try:
        caller = _caller(connection)
    except NotAllowed as error:
        if error.code == "auth.key" and not gateway.wrong_keys.take(
            connection.client.host if connection.client else ""
        ):
            raise TooMany("expected a valid key, got many wrong ones from this address: wait before the next") from None
        raise
    connection.scope[CALLER] = caller.key
    buckets = gateway.streams if connection.scope["type"] == "websocket" else gateway.requests
    if not _is_uncounted(connection) and not buckets.take(caller.key.id):
        raise TooMany("expected fewer requests with this key: wait a second, or follow the session's stream instead")
    return caller


def _is_uncounted(connection: HTTPConnection) -> bool:
    """Volumes are taken at any pace; images are kept in memory, and a hundred dashboards may share one key."""
    method, path = connection.scope.get("method"), connection.scope["path"]
    return (method in ("PUT", "POST") and "/volumes/" in path) or (method == "GET" and path.startswith("/v1/images/"))


def _caller(connection: HTTPConnection) -> Caller:
    keys: KeyStore = connection.app.state.gateway.keys
    kind, _, text = connection.headers.get("authorization", "").partition(" ")
    offered = [name.strip() for name in connection.headers.get("sec-websocket-protocol", "").split(",")]
    plain = PROTOCOL if PROTOCOL in offered else None
    if connection.scope["type"] == "websocket":
        _check_origin(connection)
        for name in offered:
            if name.startswith(TICKET_PROTOCOL):
                return Caller(keys.redeem(name.removeprefix(TICKET_PROTOCOL)), plain or name)
    if kind.lower() != "bearer":
        raise NotAllowed("expected a key: Authorization: Bearer ms_...", code="auth.missing")
    return Caller(keys.check(text.strip()), plain)


def _check_origin(connection: HTTPConnection) -> None:
    """Refuse pages of other sites, which could use a browser's access (cross-site WebSocket hijacking)."""
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise Forbidden(
            "expected a page of this origin, got another's; open the dashboard from this address",
            code="auth.origin",
        )
