"""A POST with an ``Idempotency-Key`` is carried out once: a repeat gets the first response, and changes nothing.

Knows nothing of what is asked for. Only responses that say that it was done are kept. Requests for secrets (a key, a
ticket) are made again each time: a secret is stored nowhere. Images and events are the same if they are sent again.
"""

from __future__ import annotations

from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsight.errors import BadRequest, MindsightError
from mindsight.files.digest import sha256_of
from mindsight.journal.replies import Replies
from service.json_bodies import replayed, whole_body
from service.keys import KeyStore
from service.limits import PIECEWISE
from service.problems import response_of

HEADER = "idempotency-key"
REPEATED = "idempotency-replayed"
MAX_KEY = 200
_KEPT = -1
_SECRETS = ("/keys", "/ws-tickets")


def keeps_replies(path: str) -> bool:
    """Whether a POST to this address may have an idempotency key."""
    return not path.endswith(_SECRETS) and not PIECEWISE.search(path)


class Idempotent:
    """Keeps and repeats responses. A request without the header, or without a valid key, passes."""

    def __init__(self, app: ASGIApp, keys: KeyStore, replies: Replies) -> None:
        self._app, self._keys, self._replies = app, keys, replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (named := self._name(scope)) is None:
            await self._app(scope, receive, send)
            return
        try:
            name = self._checked(named)
            body = await whole_body(receive)
            if body is None:
                return
            request = sha256_of(body)
            reply = await run_in_threadpool(self._replies.begin, name, request)
        except MindsightError as error:
            await response_of(error)(scope, receive, send)
            return
        if reply is not None:
            response = Response(reply.body, reply.status, {REPEATED: "true"}, "application/json")
            await response(scope, receive, send)
        else:
            await self._carry_out(scope, replayed(body, receive), send, name, request)

    def _name(self, scope: Scope) -> tuple[str, str] | None:
        """The idempotency key, and what it is joined to; None if the request has none."""
        path = scope["path"]
        if scope["method"] != "POST" or not keeps_replies(path):
            return None
        headers = Headers(scope=scope)
        given = headers.get(HEADER)
        kind, _, key = headers.get("authorization", "").partition(" ")
        if given is None or kind.lower() != "bearer":
            return None
        try:
            caller = self._keys.check(key.strip())
        except MindsightError:  # the route refuses it
            return None
        return given, f"{caller.id} {path}?{scope['query_string'].decode('latin-1')}"

    def _checked(self, named: tuple[str, str]) -> str:
        given, joined = named
        if not 1 <= len(given) <= MAX_KEY:
            raise BadRequest(
                f"expected an Idempotency-Key of 1 to {MAX_KEY} characters, got {len(given)}: a random UUID will do",
                code="request.idempotency_key",
            )
        return sha256_of(f"{joined} {given}".encode())

    async def _carry_out(self, scope: Scope, receive: Receive, send: Send, name: str, request: str) -> None:
        status, body = 0, bytearray()

        async def keep_and_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False) and 200 <= status < 300:
                    with suppress(MindsightError):  # it was done: the response stays true, and no repeat does it again
                        await run_in_threadpool(self._replies.finish, name, request, status, body.decode())
                    status = _KEPT
            await send(message)

        try:
            await self._app(scope, receive, keep_and_send)
        finally:
            if status != _KEPT:
                with suppress(MindsightError):
                    await run_in_threadpool(self._replies.give_up, name)
