"""REST: the versions of a subject's bundle: listed, made active, rolled back, exported.

Knows nothing of how they are made; of their content it reads descriptions only.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import StreamingResponse

from mindsight.errors import NotFound
from mindsight.subjects.registry import Subject
from mindsight.subjects.versions import Versions
from service.auth import require
from service.context import GatewayDependency
from service.downloads import TAR_RESPONSE, as_tar
from service.problems import responses

router = APIRouter(prefix="/v1/subjects/{subject}/bundles", tags=["bundles"])

Number = Annotated[int, Path(ge=1, description="the version's number")]


@router.get("", dependencies=[Depends(require("subjects:write", "events:read"))], responses=responses(404))
def list_versions(gateway: GatewayDependency, subject: str) -> Versions:
    """All versions of the subject's bundle; the last number in ``activated`` is the active one."""
    return gateway.versions.read(subject)


@router.post(
    "/{number}/activate", dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409, 507)
)
def activate_version(gateway: GatewayDependency, subject: str, number: Number) -> Subject:
    """Decode the subject's sessions from now on with this version. Sessions that are open keep theirs."""
    return gateway.versions.activate(subject, number)


@router.post("/rollback", dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409, 507))
def roll_back(gateway: GatewayDependency, subject: str) -> Subject:
    """Go back to the version that was active before the present one."""
    return gateway.versions.roll_back(subject)


@router.get(
    "/{number}/export",
    response_class=StreamingResponse,
    dependencies=[Depends(require("subjects:export"))],
    responses={**TAR_RESPONSE, **responses(404, 409)},
)
def export_version(gateway: GatewayDependency, subject: str, number: Number) -> StreamingResponse:
    """The version as a tar file; ``bundle.json`` in it lists the sha256 of every file. Needs consent to export."""
    gateway.registry.get(subject).check_use("export", gateway.now())
    version = gateway.versions.read(subject).get(number)
    folder = gateway.settings.bundles_dir / version.bundle
    if version.removed or not folder.is_dir():
        raise NotFound("the files of this version were removed; export a newer one", code="version.removed")
    return as_tar(folder, headers={"X-Bundle-Digest": version.digest})
