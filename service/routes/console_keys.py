"""REST: a key for one console and one session, for as long as a visit takes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.errors import Conflict
from service.auth import Caller, Forbidden, require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Sent, SessionId
from service.routes.keys import KeyInfo, NewKey

VISIT_H, LONGEST_H = 12.0, 72.0

router = APIRouter(prefix="/v1/sessions/{session}/keys", tags=["keys"])


class MintConsole(Sent):
    hours: float = Field(default=VISIT_H, gt=0, le=LONGEST_H, description="until it expires")


@router.post(
    "",
    status_code=201,
    responses=responses(404, 409),
)
def mint_console_key(
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("sessions:control"))],
    body: MintConsole | None = None,
) -> NewKey:
    """Make a console's key for this session alone; it is shown only in this response, and expires by itself.

    Every request makes another key: one whose response was lost expires unused.
    """
    if caller.key.session is not None:
        raise Forbidden("expected an experimenter's key, got a console's: it makes no other key", code="auth.scope")
    if gateway.sessions.get(session).state != "open":
        raise Conflict("the session is closed; open another one", code="session.closed")
    key, text = gateway.keys.mint("console", session=session, ttl_s=3600.0 * (body or MintConsole()).hours)
    return NewKey(**KeyInfo.of(key).model_dump(), key=text)
