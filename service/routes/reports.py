"""REST: the report of a version's calibration, as it lies in the bundle: the page, and the figures.

Knows nothing of what is in it. It shows images, so that whoever may not know what was shown does not get it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from mindsight.errors import NotFound
from mindsight.subjects.bundle.description import REPORT, REPORT_FIGURES, REPORT_PAGE
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.problems import responses

router = APIRouter(
    prefix="/v1/subjects/{subject}/bundles/{number}", tags=["bundles"], dependencies=[Depends(require("truth:read"))]
)

Number = Annotated[int, Path(ge=1, description="the version's number")]
OWN_STYLE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get(
    "/report.html",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **responses(404)},
)
def report_page(gateway: GatewayDependency, subject: str, number: Number) -> Response:
    """One page that loads nothing from elsewhere."""
    content = _read(gateway, subject, number, REPORT_PAGE)
    return Response(content, media_type="text/html", headers={"Content-Security-Policy": OWN_STYLE})


@router.get(
    "/report.json",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **responses(404)},
)
def report_figures(gateway: GatewayDependency, subject: str, number: Number) -> Response:
    """The figures of the page, see ``docs/calibration.md``."""
    return Response(_read(gateway, subject, number, REPORT_FIGURES), media_type="application/json")


def _read(gateway: Gateway, subject: str, number: int, name: str) -> bytes:
    version = gateway.versions.read(subject).get(number)
    try:
        return (gateway.settings.bundles_dir / version.bundle / REPORT / name).read_bytes()
    except FileNotFoundError:
        raise NotFound(
            "expected a version whose bundle holds a report, got one that was removed or made elsewhere: calibrate"
            " again",
            code="version.report",
        ) from None
