"""The caller of a route and its permissions: one dependency, ``require``, on every route.

Knows nothing of sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from mindsight.errors import NotAllowed
from service.keys import Key, KeyStore, Scope

PROTOCOL = "mindsight.v1"
TICKET_PROTOCOL = "mindsight.ticket."


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


def require(*scopes: Scope) -> Callable[..., Caller]:
    """A dependency that lets a caller with any of these scopes through. Raises NotAllowed (401), Forbidden (403)."""

    def dependency(connection: HTTPConnection) -> Caller:
        caller = _caller(connection)
        if not caller.key.scopes.intersection(scopes):
            raise Forbidden(
                f"expected a key with the scope {' or '.join(scopes)}, got one without; ask for another key",
                role=caller.key.role,
            )
        return caller

    dependency.scopes = scopes  # type: ignore[attr-defined]  # the test that walks the routes looks for it
    return dependency


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
