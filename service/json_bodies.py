"""JSON bodies in which an object has a name twice are refused: readers differ in which of the two they take.

Knows nothing of what the bodies mean; what is no JSON is left to the route, which says what it expected.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsight.errors import BadRequest, MindsightError
from service.limits import PIECEWISE
from service.problems import response_of

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class _Twice(Exception):
    pass


class UniqueNames:
    """Looks at each JSON body that is read whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _CHANGES or not _may_be_json(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await whole_body(receive)
            if body is None:
                return
            check_names(body)
        except MindsightError as error:
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)


def check_names(body: bytes) -> None:
    """Raises BadRequest (``request.duplicate_name``)."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise _Twice

    try:
        json.loads(body, object_pairs_hook=unique)
    except _Twice:
        raise BadRequest(
            "expected each name once in a JSON object, got one twice; send only the value that is meant",
            code="request.duplicate_name",
        ) from None
    except (ValueError, RecursionError):
        pass


async def whole_body(receive: Receive) -> bytes | None:
    """A request's body; None if the client is gone."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body.extend(message.get("body", b""))
        more = message.get("more_body", False)
    return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read to whom comes next, and then what ``receive`` gives."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def _may_be_json(scope: Scope) -> bool:
    if PIECEWISE.search(scope["path"]):
        return False
    kind = Headers(scope=scope).get("content-type", "application/json").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
