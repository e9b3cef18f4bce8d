"""What a request says of itself before it is looked at: which host it is for, and where its body ends.

Knows nothing of routes.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mindsight.errors import BadRequest
from mindsight.settings import Settings
from service.problems import response_of


class CheckedFraming:
    """Refuses a name of this machine that it does not have, and a body with two lengths.

    A page of another site can make a browser send it here under a name of its own (DNS rebinding); a body with two
    lengths ends at different places for a proxy and for us (request smuggling). Behind a proxy, names are the proxy's.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = None if settings.behind_proxy else {"localhost", settings.host.strip("[]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._error(Headers(scope=scope)) if scope["type"] in ("http", "websocket") else None
        if error is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await response_of(error)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})

    def _error(self, headers: Headers) -> BadRequest | None:
        if "transfer-encoding" in headers and "content-length" in headers:
            return BadRequest(
                "expected a body with one length, got Content-Length and Transfer-Encoding: send one of them",
                code="request.framing",
            )
        if self._names is None or self._is_ours(headers.get("host", "")):
            return None
        return BadRequest(
            f"expected a request for {' or '.join(sorted(self._names))}, got one for another host: use the address"
            " that the service printed, or MINDSIGHT_BEHIND_PROXY=1 behind a proxy",
            code="request.host",
        )

    def _is_ours(self, host: str) -> bool:
        assert self._names is not None
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    """A number is no name that somebody else could own."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
