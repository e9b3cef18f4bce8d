"""Bodies that are read whole before the key is checked: bounded in size and in time.

Knows nothing of what they are. Volumes and images are read piece by piece, after the key, with limits of their own
(``transfer``).
"""

from __future__ import annotations

import asyncio
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.transfer import SILENCE_S, TooLarge, TooSlow

MAX_BYTES = 2 * 1024 * 1024  # ten thousand images of a pool, by name
WHOLE_S = 30.0  # for a body of this size
PIECEWISE = re.compile(r"/volumes/\d+$|^/v1/images$")


class BoundedBodies:
    """Raises TooLarge or TooSlow if the application reads the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or PIECEWISE.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        total, complete = 0, False
        until_s = asyncio.get_running_loop().time() + WHOLE_S

        async def bounded() -> Message:
            nonlocal total, complete
            if complete:  # from here on only a disconnect is awaited, which may take long
                return await receive()
            try:
                async with asyncio.timeout_at(until_s), asyncio.timeout(SILENCE_S):
                    message = await receive()
            except TimeoutError:
                raise TooSlow(
                    f"expected the next bytes within {SILENCE_S:g} s and all within {WHOLE_S:g} s, got less; send it"
                    " again"
                ) from None
            total += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if total > MAX_BYTES:
                raise TooLarge(MAX_BYTES)
            return message

        await self._app(scope, bounded, send)
