"""REST: tickets for WebSockets, because browsers cannot send a key with them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from service.auth import Caller, require
from service.context import GatewayDependency
from service.keys import TICKET_S
from service.problems import responses
from service.routes.common import Body

router = APIRouter(prefix="/v1/ws-tickets", tags=["stream"])


class Ticket(Body):
    ticket: str = Field(description="offer 'mindsight.ticket.<ticket>' as WebSocket subprotocol, once")
    expires_s: float


@router.post("", status_code=201, responses=responses())
def make_ticket(
    gateway: GatewayDependency, caller: Annotated[Caller, Depends(require("events:read", "feedback:read"))]
) -> Ticket:
    """A single-use password for one WebSocket."""
    return Ticket(ticket=gateway.keys.ticket(caller.key), expires_s=TICKET_S)
