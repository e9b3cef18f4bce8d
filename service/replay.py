"""A session's messages again, at their own pace or faster: what was live, from the log that is kept.

Knows nothing of connections. Pauses in which nothing happened are shortened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from mindsight.bus import Log
from mindsight.protocol.stream import Tick
from service.hub import TICK_S, Frame, frames_of

LONGEST_S = 5.0  # of a pause, in the session's own time
SLOWEST, FASTEST = 1.0, 20.0


async def replay(log: Log, after: int, speed: float) -> AsyncGenerator[list[Frame] | Tick]:
    """The messages after number ``after``, at ``speed`` times their pace, then ticks without end.

    Ticks carry the session's own time, so that ages on the page are those of then.
    """
    last = await asyncio.to_thread(log.last_seq)
    cursor, shown_t, behind_s, began_s, ticked_s = after, 0.0, 0.0, time.monotonic(), -TICK_S
    while True:
        page = await asyncio.to_thread(frames_of, log, cursor) if cursor < last else []
        if cursor < last and not page:  # the session was erased meanwhile
            return
        for frame in page:
            behind_s += min(max(0.0, frame.message.t - shown_t), LONGEST_S) if shown_t else 0.0
            shown_t = max(shown_t, frame.message.t)
            while (left_s := began_s + behind_s / speed - time.monotonic()) > 0 or ticked_s < 0:
                if time.monotonic() - ticked_s >= TICK_S or ticked_s < 0:
                    ticked_s = time.monotonic()
                    yield Tick(t=round(shown_t - max(0.0, left_s) * speed, 3), last=last, behind=last - cursor)
                await asyncio.sleep(max(0.0, min(left_s, TICK_S)))
            cursor = frame.seq
            yield [frame]
        if not page:
            yield Tick(t=round(shown_t, 3), last=last, behind=0)
            await asyncio.sleep(TICK_S)
