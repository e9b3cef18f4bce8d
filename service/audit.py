"""Who did what: every request that changes something, every export and every sign-in, as a line of the audit log.

A line names the key (its id and role), the route and the pseudonyms in its address: never a body, never a name, and
nothing of volumes, of which a scan has thousands. Requests that were refused for their key's role are in it too.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsight.errors import MindsightError
from mindsight.files.chain import Chain

CALLER = "mindsight.caller"
"""Name in a request's scope of the key that it came with."""
ABOUT = "mindsight.about"
"""Name in a request's scope of pseudonyms that its line names beside those in the address, by what they are."""
MAX_NAME = 100  # of what an address names: longer ones are refused, and their beginning tells enough
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_FREQUENT = ("/volumes/", "/events", "/warnings", "/v1/ws-tickets")
_EXPORT, _SIGNED_IN, _DRY_RUN = "/export", "/v1/sign-in/callback", "/v1/sessions/check"


class Audited:
    """Writes a line before the response begins. Where the disk refuses it, the gateway's own log has it."""

    def __init__(self, app: ASGIApp, chain: Chain) -> None:
        self._app, self._chain = app, chain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_of_interest(scope):
            await self._app(scope, receive, send)
            return

        async def write_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and scope.get(CALLER) is not None:
                await to_thread.run_sync(self._write, _record(scope, message["status"]))
            await send(message)

        await self._app(scope, receive, write_and_send)

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self._chain.append(record)
        except (MindsightError, OSError) as error:  # what was asked for is done: the response stays true
            print(f"mindsight gateway: the audit log lacks {record}: {error}", file=sys.stderr, flush=True)


def _is_of_interest(scope: Scope) -> bool:
    path: str = scope["path"]
    if scope["method"] in _READS:
        return path.endswith((_EXPORT, _SIGNED_IN))
    return path != _DRY_RUN and not any(part in path for part in _FREQUENT)


def _record(scope: Scope, status: int) -> dict[str, Any]:
    key, named = scope[CALLER], {**scope.get("path_params", {}), **scope.get(ABOUT, {})}
    return {
        "t": round(time.time(), 3),
        "key": key.id,
        "role": key.role,
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", ""),
        "of": {name: str(value)[:MAX_NAME] for name, value in named.items()},
        "status": status,
    }
