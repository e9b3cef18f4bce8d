"""The same for programs with an event loop: a session's messages, and its results, awaited.

Knows nothing of threads. ``async with AsyncSession(url, key, session) as session: await session.wait(3)``
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING

import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from mindsight.client.http import error_of, pauses
from mindsight.client.state import SessionState
from mindsight.client.watch import CLOSE_S, MAX_MESSAGE_BYTES, OPEN_S, read_frame
from mindsight.errors import DeadlineExceeded, MindsightError, ServiceUnavailable
from mindsight.files.pixels import pixels_of
from mindsight.protocol import Message, Result
from mindsight.protocol.stream import Tick
from mindsight.stages import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AsyncSession:
    """One session.

    url, key : of the gateway; the key needs the scope events:read
    session : its id
    silence_s : seconds without a message or tick after which it reconnects
    deadline_s : seconds without an answer after which it gives up
    """

    def __init__(self, url: str, key: str, session: str, *, silence_s: float = 10.0, deadline_s: float = 30.0) -> None:
        self.session = session
        self._address = f"ws{url.removeprefix('http').rstrip('/')}/v1/sessions/{session}/stream"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(base_url=url, headers=self._headers, timeout=10.0)
        self._silence_s, self._deadline_s = silence_s, deadline_s
        self._state = SessionState()
        self._changed = asyncio.Condition()
        self._error: MindsightError | None = None
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncSession:
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._client.aclose()

    async def wait(
        self, trial: int, stage: Stage = "fast", deadline_s: float = 3.0, *, run: int | None = None
    ) -> Result:
        """As ``Session.wait``: DeadlineExceeded (``result.late``), NotFound (``result.none``)."""

        async def come() -> Result:
            async with self._changed:
                while (found := self._state.result(trial, stage, run)) is None:
                    self._raise_error()
                    await self._changed.wait()
                return found

        try:
            return await asyncio.wait_for(come(), deadline_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(
                f"expected a {stage} result of trial {trial} within {deadline_s:g} s, got none: go on without it",
                code="result.late",
            ) from None

    async def messages(self) -> AsyncIterator[Message]:
        """Every message of the session from the first, each once and in order, until it is archived."""
        n = 0
        while True:
            async with self._changed:
                while n == len(self._state.messages):
                    self._raise_error()
                    if self._is_over:
                        return
                    await self._changed.wait()
                new = self._state.messages[n:]
            for message in new:
                yield message
            n += len(new)

    async def image(self, digest: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8. Raises the gateway's errors."""
        return pixels_of(await self._content(f"/v1/images/{digest}"))

    async def vector(self, digest: str) -> NDArray[np.float32]:
        """(V,) a beta by the digest in a ``beta.ready`` message. Raises the gateway's errors."""
        return np.frombuffer(await self._content(f"/v1/sessions/{self.session}/betas/{digest}"), "<f4")

    async def _content(self, path: str) -> bytes:
        try:
            answer = await self._client.get(path)
        except httpx.TransportError as error:
            raise ServiceUnavailable(f"lost the connection to the gateway ({type(error).__name__})") from None
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content)
        return answer.content

    async def _take(self) -> None:
        try:
            await self._follow()
        except MindsightError as error:
            self._error = error
        self._is_over = True
        async with self._changed:
            self._changed.notify_all()

    async def _follow(self) -> None:
        waits, alive_at = pauses(), time.monotonic()
        while not self._state.is_archived:
            reason = "closed"
            try:
                async with connect(
                    f"{self._address}?after={len(self._state.messages)}",
                    additional_headers=self._headers,
                    open_timeout=OPEN_S,
                    close_timeout=CLOSE_S,
                    max_size=MAX_MESSAGE_BYTES,
                ) as socket:
                    while not self._state.is_archived:
                        message = read_frame(await asyncio.wait_for(socket.recv(), self._silence_s))
                        waits, alive_at = pauses(), time.monotonic()
                        if not isinstance(message, Tick):
                            async with self._changed:
                                self._state.add(message)
                                self._changed.notify_all()
                    return
            except InvalidStatus as error:
                refusal = error_of(error.response.status_code, error.response.body)
                if error.response.status_code < 500:
                    raise refusal from None
                reason = str(refusal)
            except (OSError, InvalidHandshake, ConnectionClosed, EOFError, asyncio.TimeoutError) as error:
                reason = type(error).__name__
            if time.monotonic() - alive_at > self._deadline_s:
                raise ServiceUnavailable(f"the gateway did not answer for {self._deadline_s:g} s ({reason})")
            await asyncio.sleep(next(waits))

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
