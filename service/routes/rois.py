"""REST: regions of interest, whose time courses are measured with every volume; they need no subject bundle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
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
from service.transfer import read_body

router = APIRouter(prefix="/v1/sessions/{session}/rois", tags=["regions of interest"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
RoiNamed = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", description="as it is shown, e.g. left-amygdala")
]


Kind = Annotated[str, Query(pattern="^(rest|seconds|label)$", description="kind of baseline")]
FromS = Annotated[float, Query(ge=0, le=86_400, description="kind seconds: begin, of the run")]
UntilS = Annotated[float, Query(ge=0, le=86_400, description="kind seconds: end, of the run")]
Label = Annotated[str | None, Query(max_length=200, description="kind label: trial_type of its events")]
BINARY = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}


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
    baseline: Kind = "rest",
    from_s: FromS = 0.0,
    until_s: UntilS = 0.0,
    label: Label = None,
) -> RoiAdded:
    """Declare a region by its mask: NIfTI of one volume, gzipped or not, in which its voxels are above 0.

    The mask has the voxels of the session's reference (its bundle's, or its first volume). Only which voxels it holds
    and where they are is kept of the file. It is measured from the next volume on; ``roi.measured`` has the values.
    """
    content = await read_body(request, rois.MAX_ROI_BYTES)
    relative_to = rois.baseline_of(baseline, from_s, until_s, label)
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
