"""REST: a session's messages, live: as a WebSocket, and as server-sent events for curl and notebooks.

Knows nothing of the bus. Both send the session's messages after a cursor, each with its ``id``, without gaps or
repetitions, and a tick every two seconds, so that silence means a broken connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, WebSocket
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from mindsight.errors import BusUnavailable
from service.auth import Caller, require
from service.blinding import sees_truth
from service.context import Gateway, GatewayDependency
from service.hub import Frame
from service.problems import responses
from service.routes.common import SessionId

SEND_S = 10.0
CLOSE_S = 1.0
SLOW, REVOKED, LATER = 4408, 4401, 1013

router = APIRouter(prefix="/v1/sessions/{session}", tags=["stream"])


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **responses(404)},
)
async def events(
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("events:read"))],
    after: Annotated[int, Query(ge=0, description="the id of the last message received")] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, description="the same, as EventSource sends it")] = None,
) -> StreamingResponse:
    """The session's messages as server-sent events (``id``, ``data``); ticks come as events of the type ``tick``."""
    truth = await sees_truth(gateway, session, caller)
    after = after if last_event_id is None else last_event_id
    await gateway.hub.check(session, after)

    async def lines() -> AsyncIterator[str]:
        with suppress(BusUnavailable):  # the stream ends, and the client resumes with its last id
            async with aclosing(gateway.hub.follow(session, after)) as pages:
                async for page in pages:
                    if not gateway.keys.is_valid(caller.key):
                        return
                    if not page:
                        yield f"event: tick\ndata: {_tick(gateway)}\n\n"
                    for frame in page:
                        yield f"id: {frame.seq}\ndata: {_text(frame, truth)}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


@router.websocket("/stream")
async def stream(
    websocket: WebSocket,
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("events:read"))],
    after: Annotated[int, Query(ge=0)] = 0,
) -> None:
    """The session's messages as text frames, one JSON object each."""
    truth = await sees_truth(gateway, session, caller)
    await gateway.hub.check(session, after)
    await websocket.accept(subprotocol=caller.subprotocol)
    sender = asyncio.create_task(_send(websocket, gateway, caller, gateway.hub.follow(session, after), truth))
    listener = asyncio.create_task(_listen(websocket))
    try:
        await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, listener):
            task.cancel()
        await asyncio.gather(sender, listener, return_exceptions=True)


async def _send(
    websocket: WebSocket, gateway: Gateway, caller: Caller, pages: AsyncGenerator[list[Frame]], truth: bool
) -> None:
    sent = 0
    try:
        async with aclosing(pages):
            async for page in pages:
                if not gateway.keys.is_valid(caller.key):
                    await websocket.close(REVOKED, "the key was revoked; open the stream with another one")
                    return
                for text in [_text(frame, truth) for frame in page] or [_tick(gateway)]:
                    async with asyncio.timeout(SEND_S):
                        await websocket.send_text(text)
                sent = page[-1].seq if page else sent
    except TimeoutError:
        with suppress(TimeoutError):  # the close frame waits behind frames that the client does not take
            async with asyncio.timeout(CLOSE_S):
                await websocket.close(SLOW, f"too slow; resume with after={sent}")
    except BusUnavailable:
        await websocket.close(LATER, f"the bus is unavailable; resume with after={sent}")
    except WebSocketDisconnect:
        pass


async def _listen(websocket: WebSocket) -> None:
    """Wait until the client disconnects; what it sends is ignored."""
    try:
        while True:
            await websocket.receive_text()
    except (WebSocketDisconnect, KeyError):
        pass


def _text(frame: Frame, truth: bool) -> str:
    return frame.full if truth else frame.blinded


def _tick(gateway: Gateway) -> str:
    return json.dumps({"type": "tick", "t": round(gateway.now(), 3)}, separators=(",", ":"))
