"""REST: whether the gateway and the bus are well."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

import mindsight
from mindsight.bus import WorkQueue
from mindsight.errors import ServiceUnavailable
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body

router = APIRouter(prefix="/v1/health", tags=["service"])


class Health(Body):
    status: Literal["ok"] = "ok"
    version: str
    sign_in: bool = Field(description="whether the dashboard can sign people in at the site's identity provider")
    waiting_betas: int = Field(description="betas waiting for an inference worker")


@router.get("", responses={503: responses()[503]})
def health(gateway: GatewayDependency) -> Health:
    """200 while the gateway, its messages to watchers and the bus work, otherwise 503. Needs no key."""
    if not gateway.hub.reads:
        raise ServiceUnavailable("no new messages reach the watchers: restart the gateway", code="service.watchers")
    return Health(
        version=mindsight.__version__,
        sign_in=gateway.sign_in is not None,
        waiting_betas=len(WorkQueue(gateway.bus, "inference")),
    )
