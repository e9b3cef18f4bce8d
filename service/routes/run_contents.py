"""REST: what a run holds so far: its events, and its volumes with what was measured of each. From the message log."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.protocol import (
    EventAdded,
    Message,
    VolumeMissing,
    VolumeProcessed,
    VolumeReceived,
    without_truth,
)
from service.auth import Caller, require
from service.blinding import sees_truth
from service.context import Gateway, GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes.common import Body, RunNumber, SessionId

router = APIRouter(prefix="/v1/sessions/{session}/runs/{run}", tags=["runs"])


class VolumeShown(Body):
    index: int
    received_t: float | None = Field(
        default=None, description="when it was received, seconds since the Unix epoch; null: it is missing"
    )
    missing: str | None = Field(default=None, description="why it will not come; null: it came")
    processed: VolumeProcessed | None = Field(default=None, description="what was measured; null: not yet, or missing")


@router.get("/events", responses={**NEXT_PAGE, **responses(404)})
async def list_events(
    gateway: GatewayDependency,
    session: SessionId,
    run: RunNumber,
    page: PageDependency,
    caller: Annotated[Caller, Depends(require("events:read"))],
) -> list[EventAdded]:
    """The run's events, in the order in which they were declared; what was shown is in them only for who may see it.

    A page's ``after`` is the ``id`` of an event.
    """
    truth = await sees_truth(gateway, session, caller)
    found = [message for message in await _of(gateway, session, run) if isinstance(message, EventAdded)]
    shown = found if truth else [event for event in map(without_truth, found) if isinstance(event, EventAdded)]
    return page.of(shown, lambda event: str(event.id))


@router.get("/volumes", dependencies=[Depends(require("events:read"))], responses={**NEXT_PAGE, **responses(404)})
async def list_volumes(
    gateway: GatewayDependency, session: SessionId, run: RunNumber, page: PageDependency
) -> list[VolumeShown]:
    """The run's volumes so far, and what was measured of each. A page's ``after`` is an ``index``."""
    volumes: dict[int, VolumeShown] = {}
    for message in await _of(gateway, session, run):
        if isinstance(message, VolumeReceived):
            volumes[message.index] = VolumeShown(index=message.index, received_t=message.t)
        elif isinstance(message, VolumeMissing):
            volumes[message.index] = VolumeShown(index=message.index, missing=message.reason)
        elif isinstance(message, VolumeProcessed) and message.index in volumes:
            volumes[message.index] = volumes[message.index].model_copy(update={"processed": message})
    return page.of(list(volumes.values()), lambda volume: str(volume.index))


async def _of(gateway: Gateway, session: str, run: int) -> list[Message]:
    """The run's messages. Raises NotFound if there is no such run."""

    def read() -> list[Message]:
        gateway.journal(session).run(run)
        return [m for m in gateway.journal(session).read_messages() if getattr(m, "run", None) == run]

    return await to_thread.run_sync(read, limiter=gateway.reading)
