"""REST: a session's betas as numbers, by digest. Nothing of the stimulus is in them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from mindsight.errors import NotFound
from mindsight.protocol import BetaReady
from mindsight.protocol.messages import Digest
from service.auth import require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import SessionId

router = APIRouter(prefix="/v1/sessions/{session}/betas", tags=["results"])

_FLOATS = "application/octet-stream"


@router.get(
    "/{digest}",
    response_class=Response,
    dependencies=[Depends(require("events:read"))],
    responses={
        200: {
            "content": {_FLOATS: {"schema": {"type": "string", "format": "binary"}}},
            "description": "float32, little-endian, one number per voxel in C order of the mask",
        },
        **responses(404),
    },
)
def get_beta(gateway: GatewayDependency, session: SessionId, digest: Annotated[Digest, Path()]) -> Response:
    """A beta, its standard errors or its z-scoring statistics, by the digest that a ``beta.ready`` message names."""
    gateway.sessions.get(session)
    named = (message for message in gateway.journal(session).read_messages() if isinstance(message, BetaReady))
    if not any(digest in (beta.beta, beta.standard_errors, beta.statistics) for beta in named):
        raise NotFound("no beta of this session has this digest", code="beta.unknown")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(gateway.blobs.get(digest), media_type=_FLOATS, headers=headers)
