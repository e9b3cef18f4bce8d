"""Resources that a client has are not sent again: an ETag on every JSON response, and 304 where it is still the same.

Knows nothing of what they are. The tag is made of the bytes, so that it needs no care in any route.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsight.files.digest import sha256_of

_TAG_DIGITS = 32


class Conditional:
    """For GET and HEAD. What is streamed, or has a tag of its own, passes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        held: Message | None = None  # the response's start, until its body is there
        body = bytearray()

        async def send_tagged(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_resource(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    start, held = held, None
                    await _send_unless_known(scope, start, bytes(body), send)

        await self._app(scope, receive, send_tagged)


def _is_resource(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    is_json = headers.get("content-type", "").partition(";")[0] == "application/json"
    return start["status"] == 200 and is_json and "content-length" in headers and "etag" not in headers


async def _send_unless_known(scope: Scope, start: Message, body: bytes, send: Send) -> None:
    tag = f'"{sha256_of(body)[:_TAG_DIGITS]}"'
    headers = MutableHeaders(raw=start["headers"])
    headers["etag"] = tag
    headers.setdefault("cache-control", "private, no-cache")  # a browser asks again each time, with the tag
    if tag in Headers(scope=scope).get("if-none-match", ""):
        del headers["content-length"]
        start["status"], body = 304, b""
    await send(start)
    await send({"type": "http.response.body", "body": body})
