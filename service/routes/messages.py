"""REST: a session's messages, live: as a WebSocket, and as server-sent events for curl and notebooks.

Knows nothing of the bus. Both send the session's messages after a cursor, each with its ``id``, without gaps or
repetitions, and a tick every two seconds, so that silence means a broken connection. Over a WebSocket a client may ask
for lanes (``service.lanes``), of which it gets the newest item only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, WebSocket
from pydantic import ValidationError
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from mindsight.errors import BusUnavailable
from mindsight.protocol.stream import Tick, Want
from service.auth import Caller, require
from service.blinding import sees_truth
from service.context import Gateway, GatewayDependency
from service.hub import Frame
from service.lanes import Latest, Wanted
from service.problems import responses
from service.replay import FASTEST, SLOWEST, replay
from service.routes.common import SessionId

SEND_S = 10.0
CLOSE_S = 1.0
SLOW, REVOKED, LATER, UNKNOWN = 4408, 4401, 1013, 4400

router = APIRouter(prefix="/v1/sessions/{session}", tags=["stream"])


class PatientStream(StreamingResponse):
    """Ends where a client takes nothing for SEND_S: it resumes from its last id."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_S):
                await send(message)

        with suppress(TimeoutError):
            await super().__call__(scope, receive, send_in_time)


@router.get(
    "/events",
    response_class=PatientStream,
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
    await sees_truth(gateway, session, caller)
    after = after if last_event_id is None else last_event_id
    await gateway.hub.check(session, after)

    async def lines() -> AsyncIterator[str]:
        with suppress(BusUnavailable):  # the stream ends, and the client resumes with its last id
            async with aclosing(gateway.hub.follow(session, after)) as items:
                async for item in items:
                    if not gateway.keys.is_valid(caller.key):
                        return
                    if isinstance(item, Tick):
                        yield f"event: tick\ndata: {item.model_dump_json()}\n\n"
                    elif isinstance(item, list):
                        for frame, text in zip(item, await _texts(gateway, session, caller, item), strict=True):
                            yield f"id: {frame.seq}\ndata: {text}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return PatientStream(lines(), media_type="text/event-stream", headers=headers)


@router.websocket("/stream")
async def stream(
    websocket: WebSocket,
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("events:read"))],
    after: Annotated[int, Query(ge=0)] = 0,
    speed: Annotated[float | None, Query(ge=SLOWEST, le=FASTEST)] = None,
) -> None:
    """The session's messages as text frames, one JSON object each; the items of lanes as binary frames.

    With ``speed`` as a replay: the same messages again, at so many times their own pace, without lanes.
    """
    await sees_truth(gateway, session, caller)
    await gateway.hub.check(session, after)
    await websocket.accept(subprotocol=caller.subprotocol)
    wanted = Wanted()
    items: AsyncGenerator[list[Frame] | Latest | Tick]
    if speed is None:
        items = gateway.hub.follow(session, after, wanted)
    else:
        items = replay(gateway.journal(session).messages, after, speed)
    sender = asyncio.create_task(_send(websocket, gateway, session, caller, items, after))
    listener = asyncio.create_task(_listen(websocket, gateway, session, wanted))
    try:
        await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, listener):
            task.cancel()
        await asyncio.gather(sender, listener, return_exceptions=True)


async def _send(
    websocket: WebSocket,
    gateway: Gateway,
    session: str,
    caller: Caller,
    items: AsyncGenerator[list[Frame] | Latest | Tick],
    after: int,
) -> None:
    sent = after
    try:
        async with aclosing(items):
            async for item in items:
                if not gateway.keys.is_valid(caller.key):
                    await websocket.close(REVOKED, "the key was revoked; open the stream with another one")
                    return
                if isinstance(item, Latest):
                    async with asyncio.timeout(SEND_S):
                        await websocket.send_bytes(item.frame)
                elif isinstance(item, Tick):
                    async with asyncio.timeout(SEND_S):
                        await websocket.send_text(item.model_dump_json())
                else:
                    for frame, text in zip(item, await _texts(gateway, session, caller, item), strict=True):
                        async with asyncio.timeout(SEND_S):
                            await websocket.send_text(text)
                        sent = frame.seq
    except TimeoutError:
        with suppress(TimeoutError):  # the close frame waits behind frames that the client does not take
            async with asyncio.timeout(CLOSE_S):
                await websocket.close(SLOW, f"slow consumer; resume with after={sent}")
    except BusUnavailable:
        await websocket.close(LATER, f"the bus is unavailable; resume with after={sent}")
    except WebSocketDisconnect:
        pass


async def _listen(websocket: WebSocket, gateway: Gateway, session: str, wanted: Wanted) -> None:
    """Take what the client wants, until it disconnects."""
    try:
        while True:
            want = Want.model_validate_json(await websocket.receive_text())
            gateway.hub.want(session, wanted, want.lanes)
    except ValidationError:
        await websocket.close(UNKNOWN, 'expected {"type": "want", "lanes": [...]}, got something else')
    except (WebSocketDisconnect, KeyError):
        pass


async def _texts(gateway: Gateway, session: str, caller: Caller, page: list[Frame]) -> list[str]:
    """What this caller is sent of a page. Whether the session is blinded is asked for each page that has a truth, since
    that changes while a stream is open.
    """
    has_truth = caller.sees_truth and any(frame.full != frame.blinded for frame in page)
    truth = has_truth and await sees_truth(gateway, session, caller)
    return [frame.full if truth else frame.blinded for frame in page]
