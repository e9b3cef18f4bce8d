"""Request bodies, counted and bounded in size and time. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from mindsight.errors import BadRequest

PIECE_BYTES = 1024 * 1024
SILENCE_S = 10.0
SLOWEST_BYTES_S = 100_000.0  # on average, after SILENCE_S: a volume of 5 MB may take a minute


class TooLarge(BadRequest):
    """A body over its limit."""

    code = "request.too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"expected at most {limit} bytes, got more; send less at a time", limit=limit)


class TooSlow(BadRequest):
    """A body that stopped coming."""

    code = "request.timeout"


async def pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in pieces of about PIECE_BYTES. Raises TooLarge, TooSlow, BadRequest if the sender disconnected."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(limit)
    buffer = bytearray()
    total = 0
    stream = aiter(request.stream())
    now = asyncio.get_running_loop().time
    began_s = now()
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise TooSlow(f"expected the next bytes within {SILENCE_S:g} s, got none; send it again") from None
        except ClientDisconnect:
            raise BadRequest("expected the whole body, lost the connection before its end; send it again") from None
        if chunk is None:
            break
        total += len(chunk)
        if total > limit:
            raise TooLarge(limit)
        if now() - began_s > SILENCE_S + total / SLOWEST_BYTES_S:
            raise TooSlow(f"expected at least {SLOWEST_BYTES_S / 1000:g} kB/s, got less; send it over a faster line")
        buffer += chunk
        if len(buffer) >= PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body."""
    return b"".join([piece async for piece in pieces(request, limit)])
