"""REST: a subject's regions of interest, declared in each of its sessions when it is opened."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mindsight.protocol.rois import RoiBaseline
from service import rois
from service.auth import Caller, require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body
from service.routes.roi_query import BINARY, BaselineQuery, RoiNamed
from service.transfer import read_body

router = APIRouter(prefix="/v1/subjects/{subject}/rois", tags=["regions of interest"])


class SubjectRoi(Body):
    """A region of interest of the subject."""

    name: str
    baseline: RoiBaseline = Field(description="the volumes that percent signal change is relative to")


@router.put(
    "/{name}",
    status_code=201,
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404, 408, 413, 507),
    openapi_extra=BINARY,
)
async def put_subject_roi(
    request: Request,
    gateway: GatewayDependency,
    subject: str,
    name: RoiNamed,
    baseline: BaselineQuery,
) -> SubjectRoi:
    """Keep a region, by its mask, for the sessions that are opened from now on; see the sessions' own."""
    content = await read_body(request, rois.MAX_ROI_BYTES)
    relative_to = baseline.checked()
    await run_in_threadpool(gateway.registry.get, subject)
    mask = await run_in_threadpool(rois.mask_of, content)
    await run_in_threadpool(rois.keep, gateway, subject, name, mask, relative_to)
    return SubjectRoi(name=name, baseline=relative_to)


@router.get("", responses=responses(404))
def list_subject_rois(
    gateway: GatewayDependency,
    caller: Annotated[Caller, Depends(require("subjects:write", "events:read"))],
    subject: str,
) -> list[SubjectRoi]:
    """The subject's regions. A viewer is not told a baseline's label."""
    gateway.registry.get(subject)
    return [
        SubjectRoi(name=name, baseline=baseline if caller.sees_truth else baseline.without_truth())
        for name, baseline in rois.kept(gateway, subject)
    ]


@router.delete(
    "/{name}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def delete_subject_roi(gateway: GatewayDependency, subject: str, name: RoiNamed) -> None:
    """Leave a region out of the sessions that are opened from now on."""
    gateway.registry.get(subject)
    rois.drop(gateway, subject, name)
