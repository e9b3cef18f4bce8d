from __future__ import annotations

import asyncio
import threading

from mindsight.errors import NotFound
from mindsight.protocol import Message, VolumeProcessed, VolumeReceived, Warned
from mindsight.protocol.stream import LatestHeader, unpack_latest
from service.lags import VolumeLag
from service.lanes import Made, Slot, Source


def received(index: int, run: int = 1) -> VolumeReceived:
    return VolumeReceived(id=index + 1, session="s", t=1.0, run=run, index=index)


def processed(index: int, run: int = 1) -> VolumeProcessed:
    return VolumeProcessed(session="s", t=1.0, run=run, index=index, censored=False)


def test_while_an_item_is_made_only_the_newest_message_waits() -> None:
    may_go, made_of = threading.Event(), []

    def make(session: str, message: Message) -> Made | None:
        may_go.wait(10)
        made_of.append(message.id)
        if message.id == 1:
            raise NotFound("it was erased meanwhile")
        return LatestHeader(lane="volumes", message=message.id, t=1.0, media_type="x"), b"voxels"

    async def scenario() -> Slot:
        ready = asyncio.Event()
        slot = Slot("s", "volumes", Source(frozenset({"volume.received"}), make), ready.set)
        slot.offer(received(0))
        await asyncio.sleep(0)  # it is being made of this one
        for index in (1, 2, 3):
            slot.offer(received(index))
        slot.offer(Warned(id=9, session="s", t=1.0, code="c", text="brings no volume"))
        may_go.set()
        await asyncio.wait_for(ready.wait(), 10)
        return slot

    slot = asyncio.run(scenario())
    assert made_of == [1, 4]
    assert slot.item is not None
    header, payload = unpack_latest(slot.item.frame)
    assert (header.message, payload) == (4, b"voxels")


def test_volumes_that_wait_are_counted_by_their_index() -> None:
    lag = VolumeLag()
    assert lag.n is None
    lag.see(received(7))  # those before the first that was seen may have been processed
    assert lag.n == 1
    lag.see(received(8))
    assert lag.n == 2
    lag.see(processed(7))
    lag.see(processed(8))
    assert lag.n == 0
    lag.see(received(0, run=2))
    assert lag.n == 1
