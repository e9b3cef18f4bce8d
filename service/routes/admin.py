"""REST: keys, tickets, health. Knows nothing of sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

import mindsight
from mindsight.bus import WorkQueue
from service.auth import Caller, require
from service.context import GatewayDependency
from service.keys import TICKET_S
from service.problems import responses
from service.routes.bodies import Health, KeyInfo, Mint, NewKey, Ticket

router = APIRouter(prefix="/v1")


@router.get("/health", tags=["service"], responses={503: responses()[503]})
def health(gateway: GatewayDependency) -> Health:
    """200 when the gateway and the bus are well, else 503. Needs no key, and says nothing that would."""
    return Health(version=mindsight.__version__, waiting_betas=len(WorkQueue(gateway.bus, "inference")))


@router.post("/ws-tickets", status_code=201, tags=["stream"], responses=responses())
def make_ticket(gateway: GatewayDependency, caller: Annotated[Caller, Depends(require("events:read"))]) -> Ticket:
    """A single-use password for one WebSocket: browsers cannot send a key with it."""
    return Ticket(ticket=gateway.keys.ticket(caller.key), expires_s=TICKET_S)


@router.get("/keys", tags=["keys"], dependencies=[Depends(require("admin"))], responses=responses())
def list_keys(gateway: GatewayDependency) -> list[KeyInfo]:
    return [KeyInfo(id=key.id, role=key.role, created_t=key.created_t) for key in gateway.keys.list()]


@router.post("/keys", status_code=201, tags=["keys"], dependencies=[Depends(require("admin"))], responses=responses())
def mint_key(gateway: GatewayDependency, body: Mint) -> NewKey:
    key, text = gateway.keys.mint(body.role)
    return NewKey(id=key.id, role=key.role, created_t=key.created_t, key=text)


@router.delete(
    "/keys/{id}", status_code=204, tags=["keys"], dependencies=[Depends(require("admin"))], responses=responses(404)
)
def revoke_key(gateway: GatewayDependency, id: str) -> None:
    """The key, its tickets and its open streams end."""
    gateway.keys.revoke(id)
