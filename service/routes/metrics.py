"""REST: the service's figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import Response

from service.auth import require
from service.context import GatewayDependency
from service.problems import responses

router = APIRouter(prefix="/v1/metrics", tags=["service"])
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "",
    dependencies=[Depends(require("events:read"))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses()},
)
def metrics(gateway: GatewayDependency) -> Response:
    """Requests, sessions, queues, latencies and disk in Prometheus's text format. No subject or session is named."""
    return Response(gateway.meter.scrape(), media_type=TEXT)
