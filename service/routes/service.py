"""REST: the service itself, for those who look after it: workers, queues, bus, disk, limits; and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

import mindsight
from mindsight.files.chain import Chain
from service.auth import require
from service.context import REQUEST_BURST, REQUESTS_S, GatewayDependency
from service.limits import MAX_BYTES
from service.machine import BusState, Disk, Queue, WorkerState, bus_of, disk_of, queues_of, workers_of
from service.problems import responses
from service.routes.common import Body

router = APIRouter(prefix="/v1/service", tags=["service"])


class ServiceLimits(Body):
    volume_bytes: int = Field(description="of one volume")
    body_bytes: int = Field(description="of any other request")
    requests_s: float = Field(description="requests of one key in a second, volumes not counted")
    request_burst: float = Field(description="of which so many may come at once")


class ServiceState(Body):
    version: str
    disk: Disk
    bus: BusState
    workers: list[WorkerState]
    queues: list[Queue]
    limits: ServiceLimits


class AuditLine(Body):
    number: int = Field(description="its place in the log, from 1")
    record: dict[str, Any] = Field(
        description="who (key, role) did what (method, route, of), when (t), with which status"
    )
    digest: str = Field(description="of this line and of all before it")


@router.get("", dependencies=[Depends(require("sessions:control"))], responses=responses())
def service_state(gateway: GatewayDependency) -> ServiceState:
    """Workers with the last sign of each, what waits in the queues, bus, disk, limits."""
    return ServiceState(
        version=mindsight.__version__,
        disk=disk_of(gateway),
        bus=bus_of(gateway),
        workers=workers_of(gateway),
        queues=queues_of(gateway),
        limits=ServiceLimits(
            volume_bytes=gateway.settings.max_volume_bytes,
            body_bytes=MAX_BYTES,
            requests_s=REQUESTS_S,
            request_burst=REQUEST_BURST,
        ),
    )


@router.get("/audit", dependencies=[Depends(require("admin"))], responses=responses(409))
def audit_log(
    gateway: GatewayDependency, last: Annotated[int, Query(ge=1, le=1000, description="lines at most")] = 100
) -> list[AuditLine]:
    """The last lines of the audit log, the newest first. ``mindsight audit verify`` checks that none was changed."""
    lines = Chain(gateway.settings.audit_file).last(last)
    return [AuditLine(number=line.number, record=line.record, digest=line.digest) for line in reversed(lines)]
