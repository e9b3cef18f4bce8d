"""REST: API keys."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from service.auth import require
from service.context import GatewayDependency
from service.keys import MAX_NOTE, Role
from service.problems import responses
from service.routes.common import Body

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class Mint(Body):
    role: Role
    note: str = Field(default="", max_length=MAX_NOTE, description="whom or what it is for, to know it by in a list")


class KeyInfo(Body):
    id: str
    role: Role
    created_t: float
    note: str = Field(default="", description="whom or what it is for")


class NewKey(KeyInfo):
    key: str = Field(description="shown only here; the service keeps its sha256")


@router.get("", dependencies=[Depends(require("admin"))], responses=responses())
def list_keys(gateway: GatewayDependency) -> list[KeyInfo]:
    """All keys, without their secrets."""
    return [KeyInfo(**key.model_dump(exclude={"sha256"})) for key in gateway.keys.list()]


@router.post("", status_code=201, dependencies=[Depends(require("admin"))], responses=responses())
def mint_key(gateway: GatewayDependency, body: Mint) -> NewKey:
    """Make a key; it is shown only in this response."""
    key, text = gateway.keys.mint(body.role, body.note)
    return NewKey(**key.model_dump(exclude={"sha256"}), key=text)


@router.delete("/{id}", status_code=204, dependencies=[Depends(require("admin"))], responses=responses(404))
def revoke_key(gateway: GatewayDependency, id: str) -> None:
    """Revoke a key: its tickets are refused, and its open streams end."""
    gateway.keys.revoke(id)
