"""REST: regions of interest, whose time courses are measured with every volume; they need no subject bundle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from mindsight.protocol.inputs import SetRoi
from mindsight.protocol.messages import Digest
from mindsight.protocol.rois import RoiBaseline
from service import rois
from service.auth import Caller, require
from service.blinding import may_see_truth
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body, SessionId
from service.routes.roi_query import BINARY, BaselineQuery, RoiNamed
from service.transfer import read_body

router = APIRouter(prefix="/v1/sessions/{session}/rois", tags=["regions of interest"])


class Roi(Body):
    """A region of interest of the session, as declared last."""

    name: str
    mask: Digest
    baseline: RoiBaseline = Field(description="the volumes that percent signal change is relative to")


class RoiAdded(Body):
    name: str
    mask: Digest
    n_voxels: int = Field(description="in the mask; those in the session's mask are measured")
    duplicate: bool


@router.put(
    "/{name}",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(404, 408, 409, 413, 507),
    openapi_extra=BINARY,
)
async def put_roi(
    request: Request,
    gateway: GatewayDependency,
    session: SessionId,
    name: RoiNamed,
    baseline: BaselineQuery,
) -> RoiAdded:
    """Declare a region by its mask: NIfTI of one volume, gzipped or not, in which its voxels are above 0.

    The mask has the voxels of the session's reference (its bundle's, or its first volume). Only which voxels it holds
    and where they are is kept of the file. It is measured from the next volume on; ``roi.measured`` has the values.
    """
    content = await read_body(request, rois.MAX_ROI_BYTES)
    relative_to = baseline.checked()
    await run_in_threadpool(gateway.sessions.get, session)
    mask = await run_in_threadpool(rois.mask_of, content)
    added, duplicate = await run_in_threadpool(rois.declare, gateway, session, name, mask, relative_to)
    return RoiAdded(name=name, mask=added, n_voxels=int(mask.data.sum()), duplicate=duplicate)


@router.get(
    "",
    responses=responses(404),
)
def list_rois(
    gateway: GatewayDependency,
    caller: Annotated[Caller, Depends(require("sessions:control", "events:read"))],
    session: SessionId,
) -> list[Roi]:
    """The session's regions, in the order of their declaration. A baseline's label is not told where what is shown is
    hidden.
    """
    tells = may_see_truth(gateway.sessions.get(session), caller)
    declared = {entry.name: entry for entry in gateway.journal(session).read_inputs() if isinstance(entry, SetRoi)}
    return [
        Roi(
            name=roi.name,
            mask=roi.mask,
            baseline=roi.baseline if tells else roi.baseline.without_truth(),
        )
        for roi in declared.values()
    ]
