"""REST: API keys."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Depends
from pydantic import Field

from service.auth import Caller, require
from service.context import GatewayDependency
from service.keys import MAX_NOTE, Key, Role, Scope
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes.common import Body, Sent

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class Mint(Sent):
    role: Role
    note: str = Field(default="", max_length=MAX_NOTE, description="whom or what it is for, to know it by in a list")


class KeyInfo(Body):
    id: str
    role: Role
    created_t: float = Field(description="seconds since the Unix epoch")
    note: str = Field(default="", description="whom or what it is for")
    session: str | None = Field(default=None, description="the only session that it opens; null: all of them")
    expires_t: float | None = Field(default=None, description="seconds since the Unix epoch; null: never")

    @classmethod
    def of(cls, key: Key) -> KeyInfo:
        return cls(**key.model_dump(exclude={"sha256"}))


class OwnKey(KeyInfo):
    scopes: list[Scope] = Field(description="what it may do")


class NewKey(KeyInfo):
    key: str = Field(description="shown only here; the service keeps its sha256")


@router.get("", dependencies=[Depends(require("admin"))], responses={**NEXT_PAGE, **responses(404)})
def list_keys(gateway: GatewayDependency, page: PageDependency) -> list[KeyInfo]:
    """All keys, without their secrets."""
    return [KeyInfo.of(key) for key in page.of(gateway.keys.list(), lambda key: key.id)]


@router.get("/own", responses=responses())
def own_key(caller: Annotated[Caller, Depends(require(*get_args(Scope)))]) -> OwnKey:
    """The key that the request comes with: its role, and what it may do."""
    return OwnKey(**KeyInfo.of(caller.key).model_dump(), scopes=sorted(caller.key.scopes))


@router.post("", status_code=201, dependencies=[Depends(require("admin"))], responses=responses())
def mint_key(gateway: GatewayDependency, body: Mint) -> NewKey:
    """Make a key; it is shown only in this response."""
    key, text = gateway.keys.mint(body.role, body.note)
    return NewKey(**KeyInfo.of(key).model_dump(), key=text)


@router.delete("/{id}", status_code=204, dependencies=[Depends(require("admin"))], responses=responses(404))
def revoke_key(gateway: GatewayDependency, id: str) -> None:
    """Revoke a key: its tickets are refused, and its open streams end."""
    gateway.keys.revoke(id)
