"""REST and WebSocket: what a session's participant is shown, and the participant's screen.

The screen's scope is ``feedback:read``, which opens nothing else; what it gets is made here, of what the experimenter
chose. Knows nothing of how a result is awaited (``service.closed_loop``).
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, WebSocket
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from mindsight.errors import BusUnavailable, MindsightError, StorageUnavailable
from mindsight.journal.feedback import FeedbackRecorder
from mindsight.protocol import FeedbackDrawn
from mindsight.protocol.feedback import Drawn, FeedbackPlan, Ping, Pong, Show, ShowPlan
from mindsight.protocol.stream import pack_frame
from service.auth import Caller, require
from service.closed_loop import ClosedLoop, Feedback
from service.context import Gateway, GatewayDependency
from service.problems import responses
from service.routes.common import SessionId
from service.routes.messages import LATER, REVOKED, SEND_S, SLOW, UNKNOWN

CHECK_S = 2.0  # how often a revoked key is noticed while nothing happens
_FROM_SCREEN: TypeAdapter[Drawn | Ping] = TypeAdapter(Drawn | Ping)

router = APIRouter(prefix="/v1/sessions/{session}", tags=["feedback"])


@router.get("/feedback", dependencies=[Depends(require("sessions:control", "events:read"))], responses=responses(404))
def get_feedback(gateway: GatewayDependency, session: SessionId) -> FeedbackPlan:
    """What the participant is shown of each trial, and by when."""
    return FeedbackRecorder(gateway.bus, session, gateway.now).plan()


@router.put("/feedback", dependencies=[Depends(require("sessions:control"))], responses=responses(404, 409, 507))
def choose_feedback(gateway: GatewayDependency, session: SessionId, body: FeedbackPlan) -> FeedbackPlan:
    """Choose what the participant is shown of each trial from now on: nothing else reaches the participant's screen.

    A result that has not come ``deadline_s`` after its trial's onset is replaced by the fallback, and never shown.
    """
    return FeedbackRecorder(gateway.bus, session, gateway.now).choose(body)


@router.websocket("/participant")
async def participant(
    websocket: WebSocket,
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("feedback:read"))],
) -> None:
    """The participant's screen: what it is to show comes; what it has drawn goes back."""
    await run_in_threadpool(gateway.sessions.get, session)
    await websocket.accept(subprotocol=caller.subprotocol)
    screen = _Screen(websocket, gateway, session, caller)
    tasks = [asyncio.create_task(work) for work in (screen.follow(), screen.keep_deadlines(), screen.listen())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Screen:
    """One screen, connected."""

    websocket: WebSocket
    gateway: Gateway
    session: str
    caller: Caller
    loop: ClosedLoop = field(default_factory=ClosedLoop)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    shown: list[tuple[Feedback, Show]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def follow(self) -> None:
        """Show what the session's messages let be shown, from now on."""
        try:
            last = await run_in_threadpool(self._prime)
            await self._send_plan()
            async with aclosing(self.gateway.hub.follow(self.session, last)) as items:
                async for item in items:
                    for frame in item if isinstance(item, list) else ():
                        await self._see(frame.message)
                    self.news.set()
        except TimeoutError:
            await self._close(SLOW, "slow consumer; connect again")
        except BusUnavailable:
            await self._close(LATER, "the bus is unavailable; connect again")
        except WebSocketDisconnect:
            pass

    def _prime(self) -> int:
        """Take in what happened before this screen was connected; number of the last message."""
        last = 0
        messages = list(self.gateway.journal(self.session).read_messages())
        self.loop.prime(messages, self.gateway.now())
        if messages:
            last = messages[-1].id
        return last

    async def _see(self, message: object) -> None:
        before = self.loop.plan
        feedback = self.loop.see(message)  # type: ignore[arg-type]
        if self.loop.plan != before:
            await self._send_plan()
        if feedback is not None:
            await self._show(feedback)

    async def keep_deadlines(self) -> None:
        """Show the fallback of each trial whose result has not come in time."""
        with suppress(WebSocketDisconnect, TimeoutError):
            while True:
                next_t = self.loop.next_t()
                wait_s = CHECK_S if next_t is None else min(CHECK_S, max(0.0, next_t - self.gateway.now()))
                self.news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self.news.wait()
                if not self.gateway.keys.is_valid(self.caller.key):
                    await self._close(REVOKED, "the key was revoked; open the screen with another one")
                    return
                for feedback in self.loop.due(self.gateway.now()):
                    await self._show(feedback)

    async def listen(self) -> None:
        """Log what was drawn, and tell the time, until the screen disconnects."""
        try:
            while True:
                received = _FROM_SCREEN.validate_json(await self.websocket.receive_text())
                if isinstance(received, Ping):
                    await self._send(Pong(sent=received.sent, t=self.gateway.now()).model_dump_json())
                elif received.number <= len(self.shown):
                    await self._log(received)
        except ValidationError:
            await self._close(UNKNOWN, "expected a ping, or what was drawn; got something else")
        except (WebSocketDisconnect, TimeoutError, KeyError):
            pass

    async def _log(self, drawn: Drawn) -> None:
        feedback, show = self.shown[drawn.number - 1]
        message = FeedbackDrawn(
            session=self.session,
            t=self.gateway.now(),
            screen=self.id,
            number=drawn.number,
            run=feedback.trial[0],
            trial=feedback.trial[1],
            what=show.what,
            fallback=feedback.fallback,
            sent_t=show.t,
            requested_t=drawn.requested_t,
            drawn_t=drawn.drawn_t,
            patch=drawn.patch,
            clock_ms=drawn.clock_ms,
        )
        recorder = FeedbackRecorder(self.gateway.bus, self.session, self.gateway.now)
        with suppress(MindsightError):  # the session was closed meanwhile
            await run_in_threadpool(recorder.drawn, self.id, message)

    async def _show(self, feedback: Feedback) -> None:
        picture = None
        if feedback.image is not None:
            with suppress(StorageUnavailable):  # then the fallback is shown
                picture = await run_in_threadpool(self.gateway.pictures.get, feedback.image)
        show = self._what(feedback, picture.media_type if picture else None)
        self.shown.append((feedback, show))
        if picture is not None and show.what == "picture":
            async with self.sending, asyncio.timeout(SEND_S):
                await self.websocket.send_bytes(pack_frame(show, picture.payload))
        else:
            await self._send(show.model_dump_json(exclude_none=True))

    def _what(self, feedback: Feedback, media_type: str | None) -> Show:
        number, t = len(self.shown) + 1, self.gateway.now()
        if feedback.text is not None:
            return Show(number=number, what="text", text=feedback.text, t=t)
        if feedback.value is not None:
            return Show(number=number, what="bar", value=feedback.value, t=t)
        if media_type is not None:
            return Show(number=number, what="picture", media_type=media_type, t=t)
        fallback = self.loop.plan.fallback
        return Show(number=number, what=fallback.show, text=fallback.text, t=t)

    async def _send_plan(self) -> None:
        plan = self.loop.plan
        await self._send(ShowPlan(patch=plan.patch, hold_s=plan.hold_s).model_dump_json())

    async def _send(self, text: str) -> None:
        async with self.sending, asyncio.timeout(SEND_S):
            await self.websocket.send_text(text)

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(1.0):
                await self.websocket.close(code, reason)
