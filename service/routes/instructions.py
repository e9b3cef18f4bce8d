"""REST: what an experimenter asks of a session while it runs: marks, pausing the decoding, blinding.

Knows nothing of how the worker carries it out: its message ``instructed`` in the session's log tells that it has.
"""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.protocol.inputs import Instruct
from mindsight.protocol.messages import MAX_MARK, Instruction
from service.auth import require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import SESSION_PATTERN, Body, Sent, SessionId

router = APIRouter(prefix="/v1/sessions/{session}/instructions", tags=["sessions"])


class Instructing(Sent):
    instruction: Instruction = Field(
        description="mark: a remark with its time; pause, resume: betas are estimated and not decoded in between;"
        " blind, unblind: what was shown is sent to nobody in between"
    )
    text: str | None = Field(
        default=None, min_length=1, max_length=MAX_MARK, description="of a mark; must not contain a name"
    )
    change: str | None = Field(
        default=None,
        pattern=SESSION_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )


class Logged(Body):
    change: str = Field(description="the id that the worker's message repeats")
    number: int = Field(description="its place in the session's input log")
    duplicate: bool = Field(description="whether the same instruction was sent before")


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 409, 507),
)
def instruct(gateway: GatewayDependency, session: SessionId, body: Instructing) -> Logged:
    """Mark, pause or resume decoding, blind or unblind. Sending the same again changes nothing.

    The response tells that it is durable, and of ``blind`` that no byte of a stimulus is sent from now on. The message
    ``instructed`` with the same ``change`` follows in the session's stream when the worker has taken it.
    """
    declared = Instruct(
        t=gateway.now(),
        change=body.change or secrets.token_hex(8),
        instruction=body.instruction,
        text=body.text if body.instruction == "mark" else None,
    )
    appended = gateway.recorder(session).instruct(declared)
    return Logged(change=declared.change, number=appended.seq, duplicate=appended.duplicate)
