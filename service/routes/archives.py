"""REST: what a closed session left behind: its report, and its archive as one file.

Knows nothing of what is in them. Both show what was shown.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Depends
from starlette.responses import Response, StreamingResponse

from mindsight.errors import NotFound
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.downloads import TAR_RESPONSE, as_tar
from service.problems import responses
from service.routes.common import SessionId
from service.routes.reports import OWN_STYLE

MANIFEST = "manifest.json"

router = APIRouter(prefix="/v1/sessions/{session}", tags=["sessions"])


@router.get(
    "/report.html",
    response_class=Response,
    dependencies=[Depends(require("truth:read"))],
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **responses(404)},
)
def session_report(gateway: GatewayDependency, session: SessionId) -> Response:
    """The session's report: quality, motion, accuracy by stage, latency, pictures, methods. It loads nothing."""
    found = sorted((_archive(gateway, session) / "derivatives" / "mindsight").glob("sub-*_ses-*.html"))
    if not found:
        raise NotFound(
            "expected a report in the session's archive, got none: mindsight report makes it", code="session.report"
        )
    return Response(found[0].read_bytes(), media_type="text/html", headers={"Content-Security-Policy": OWN_STYLE})


@router.get(
    "/export",
    response_class=StreamingResponse,
    dependencies=[Depends(require("subjects:export"))],
    responses={**TAR_RESPONSE, **responses(404, 409)},
)
def export_session(gateway: GatewayDependency, session: SessionId) -> StreamingResponse:
    """The session's archive as a tar file: BIDS raw data and derivatives; its last file, ``manifest.json``, has the
    size and sha256 of each. The subject must have agreed to an export.
    """
    folder = _archive(gateway, session)
    gateway.registry.get(folder.name.partition("_")[0]).check_use("export", gateway.now())
    return as_tar(folder, MANIFEST)


def _archive(gateway: Gateway, session: str) -> Path:
    """Raises NotFound (``session.not_archived``)."""
    record = gateway.sessions.get(session)
    folder = gateway.settings.archive_dir / f"{record.subject}_{session}"
    if record.state != "archived" or not folder.is_dir():
        raise NotFound(
            "expected an archived session, it is not archived yet: close it, and wait for its archive",
            code="session.not_archived",
        )
    return folder
