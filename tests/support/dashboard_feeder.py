"""A small server in the gateway's place: the page's files, and recorded messages at any pace.

Knows nothing of the bus or of decoding. Tests drive it from code; by hand, from the root of the checkout:
``PYTHONPATH=. python tests/support/dashboard_feeder.py --port 8421 --speed 4``, then open the address it prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from mindsight.protocol.messages import SessionClosed, SessionOpened, dump_message
from service.problems import explain_validation
from service.routes.session_checks import SessionStatus
from service.routes.sessions import ChangeLimits
from support.dashboard_record import Record, Scanner

KEY = "ms_test_key"  # a made-up key of a server that exists for seconds
DASHBOARD = Path(__file__).resolve().parents[2] / "service" / "dashboard"
CSP = "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws:"
TICK_S = 2.0


@dataclass
class Feed:
    """One session: what has been published so far, and who listens."""

    record: Record
    published: int = 0
    shift_s: float = 0.0
    sockets: set[WebSocket] = field(default_factory=set)
    ticking: bool = True

    def publish(self, n: int, *, last_was_s_ago: float = 0.0) -> None:
        """The first ``n`` messages, moved in time so that the last of them was written that long ago."""
        if self.published == 0:
            self.shift_s = time.time() - last_was_s_ago - self.record.messages[n - 1].t
        self.published = n

    def wire(self, number: int) -> bytes:
        message = self.record.messages[number - 1]
        return dump_message(message.model_copy(update={"t": message.t + self.shift_s}))


class Feeder:
    """The server, in a thread of its own; ``url`` once it listens."""

    def __init__(self, records: list[Record], port: int = 0) -> None:
        self.feeds = {record.session: Feed(record) for record in records}
        self.images = {digest: data for record in records for digest, data in record.images.items()}
        self.tickets: set[str] = set()
        self.refuse = False
        self.unready: dict[str, int] = {}  # how often each image is still refused
        self.limits: list[dict[str, Any]] = []
        config = uvicorn.Config(
            self._app(),
            host="127.0.0.1",
            port=port,
            log_level="error",
            timeout_graceful_shutdown=1,
            ws="websockets-sansio",
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.server.serve()

    def __enter__(self) -> Feeder:
        self.thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the feeder did not start within 10 s")
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)

    def publish(self, session: str, n: int, *, last_was_s_ago: float = 0.0) -> None:
        feed = self.feeds[session]
        self.loop.call_soon_threadsafe(lambda: feed.publish(n, last_was_s_ago=last_was_s_ago))

    def reset(self) -> None:
        """As after the start: nothing published, nothing refused, no limits set."""
        self.refuse = False
        self.unready = {}
        self.limits = []
        self.feeds = {session: Feed(feed.record) for session, feed in self.feeds.items()}

    def drop(self, session: str) -> None:
        """Closes every connection of a session without a word, as a network does."""
        feed = self.feeds[session]
        for socket in list(feed.sockets):
            asyncio.run_coroutine_threadsafe(socket.close(1012), self.loop).result(5)

    # The gateway's routes, as the page uses them.

    def _app(self) -> Starlette:
        routes = [
            Route("/v1/sessions", self._sessions),
            Route("/v1/keys/own", self._own_key),
            Route("/v1/sessions/{session}", self._session),
            Route("/v1/sessions/{session}/status", self._status),
            Route("/v1/sessions/{session}/limits", self._limits, methods=["POST"]),
            Route("/v1/ws-tickets", self._ticket, methods=["POST"]),
            Route("/v1/images/{digest}", self._image),
            WebSocketRoute("/v1/sessions/{session}/stream", self._stream),
            Mount("/", StaticFiles(directory=DASHBOARD, html=True)),
        ]
        return Starlette(routes=routes, middleware=[Middleware(Policy)])

    def _allowed(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {KEY}"

    async def _sessions(self, request: Request) -> Response:
        if not self._allowed(request):
            return JSONResponse({"title": "wrong key", "status": 401}, 401)
        return JSONResponse([self._item(feed) for feed in self.feeds.values() if feed.published])

    async def _session(self, request: Request) -> Response:
        if not self._allowed(request):
            return JSONResponse({"title": "wrong key", "status": 401}, 401)
        feed = self.feeds.get(request.path_params["session"])
        return JSONResponse(self._item(feed)) if feed else JSONResponse({"title": "no such session"}, 404)

    async def _own_key(self, request: Request) -> Response:
        if not self._allowed(request):
            return JSONResponse({"title": "wrong key", "status": 401}, 401)
        return JSONResponse({"id": "00000000", "role": "experimenter", "scopes": ["events:read", "sessions:control"]})

    async def _status(self, request: Request) -> Response:
        session = request.path_params["session"]
        return JSONResponse(SessionStatus(session=session, run=1, volumes=37, health="ok").model_dump())

    async def _limits(self, request: Request) -> Response:
        try:
            body = ChangeLimits.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"title": "Unprocessable", "detail": explain_validation(error.errors())}, 422)
        self.limits.append(body.model_dump(exclude_none=True))
        return JSONResponse({"change": "c", "duplicate": False}, 201)

    def _item(self, feed: Feed) -> dict[str, Any]:
        opened = feed.record.messages[0]
        assert isinstance(opened, SessionOpened)
        closed = any(isinstance(m, SessionClosed) for m in feed.record.messages[: feed.published])
        return {
            "session": opened.session,
            "subject": opened.subject,
            "bundle": opened.bundle,
            "options": {
                "blinded": opened.blinded,
                "fd_mm": None,
                "usable_min": feed.record.usable_min,
                "limits": {"drift_percent": 2.0, "spikes": None},
            },
            "sees_truth": not opened.blinded,
            "state": "closed" if closed else "open",
            "opened_t": opened.t + feed.shift_s,
        }

    async def _ticket(self, request: Request) -> Response:
        if self.refuse:
            return JSONResponse({"title": "bus unavailable", "status": 503}, 503)
        if not self._allowed(request):
            return JSONResponse({"title": "wrong key", "status": 401}, 401)
        ticket = secrets.token_urlsafe(16)
        self.tickets.add(ticket)
        return JSONResponse({"ticket": ticket, "expires_s": 30}, 201)

    async def _image(self, request: Request) -> Response:
        if not self._allowed(request):
            return JSONResponse({"title": "wrong key", "status": 401}, 401)
        digest = request.path_params["digest"]
        if (left := self.unready.get(digest, 0)) > 0:
            self.unready[digest] = left - 1
            return JSONResponse({"title": "storage unavailable", "status": 503}, 503)
        data = self.images.get(digest)
        return Response(data, media_type="image/png") if data else JSONResponse({"title": "no such image"}, 404)

    async def _stream(self, socket: WebSocket) -> None:
        protocols = socket.scope["subprotocols"]
        ticket = next((p.removeprefix("mindsight.ticket.") for p in protocols if p.startswith("mindsight.ticket.")), "")
        if ticket not in self.tickets or "mindsight.v1" not in protocols:
            await socket.close(4401)
            return
        self.tickets.discard(ticket)
        feed = self.feeds[socket.path_params["session"]]
        await socket.accept(subprotocol="mindsight.v1")
        feed.sockets.add(socket)
        gone = asyncio.create_task(_disconnected(socket))
        with contextlib.suppress(RuntimeError):
            await self._play(feed, socket, int(socket.query_params["after"]), gone)
        gone.cancel()
        feed.sockets.discard(socket)

    async def _play(self, feed: Feed, socket: WebSocket, cursor: int, gone: asyncio.Task[Any]) -> None:
        ticked = 0.0
        while not gone.done():
            while cursor < feed.published:
                cursor += 1
                await socket.send_text(feed.wire(cursor).decode())
                await asyncio.sleep(0)  # sending waits for nothing: images and pings would wait for the last message
            if feed.ticking and time.monotonic() - ticked > TICK_S:
                ticked = time.monotonic()
                await socket.send_text(json.dumps({"type": "tick", "t": time.time()}))
            await asyncio.wait([gone], timeout=0.02)


async def _disconnected(socket: WebSocket) -> None:
    """Until the page is gone; what lanes it wants is not answered."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


class Policy(BaseHTTPMiddleware):
    """The headers that the gateway sends with every file."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = CSP
        response.headers["Cache-Control"] = "no-cache"
        return response


def play(feeder: Feeder, session: str, speed: float) -> Iterator[int]:
    """Publishes a session at ``speed`` times its own pace; yields how many messages are out."""
    record = feeder.feeds[session].record
    began, first = time.monotonic(), record.messages[0].t
    feeder.feeds[session].shift_s = time.time() - first
    for n, message in enumerate(record.messages, start=1):
        due = began + (message.t - first) / speed
        time.sleep(max(0.0, due - time.monotonic()))
        feeder.feeds[session].shift_s = time.time() - message.t
        feeder.publish(session, n)
        yield n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8421)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--blinded", action="store_true")
    parser.add_argument("--brain", action="store_true")
    arguments = parser.parse_args()
    record = Scanner(blinded=arguments.blinded, brain=arguments.brain).session()
    with Feeder([record], arguments.port) as feeder:
        print(f"{feeder.url}/#key={KEY}&session={record.session}", flush=True)
        for _ in play(feeder, record.session, arguments.speed):
            pass
        print("the session is over; Ctrl-C stops the server", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
