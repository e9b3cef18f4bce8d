"""REST: images, by the digest of their content. Serves images only: never a volume or a beta."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mindsight.errors import BadRequest, NotFound
from mindsight.files.images import image_kind
from mindsight.protocol.messages import Digest
from service.auth import Caller, require
from service.context import GatewayDependency
from service.pictures import MAX_IMAGE_BYTES, MEDIA_TYPES
from service.problems import responses
from service.routes.common import Body
from service.transfer import read_body

_HEADERS = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(prefix="/v1/images", tags=["images"])


class Image(Body):
    digest: Digest


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require("sessions:control"))],
    responses=responses(408, 413, 507),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(("image/png", "image/jpeg"), _BINARY)}},
)
async def post_image(request: Request, gateway: GatewayDependency) -> Image:
    """Store an image (PNG or JPEG) that will be shown, so that an event can name it."""
    payload = await read_body(request, MAX_IMAGE_BYTES)
    if image_kind(payload) not in MEDIA_TYPES:
        raise BadRequest("expected a PNG or a JPEG", code="image.format")
    return Image(digest=await run_in_threadpool(gateway.shown.put, payload))


@router.get(
    "/{digest}",
    response_class=Response,
    responses={
        200: {"content": dict.fromkeys(("image/png", "image/jpeg"), _BINARY)},
        304: {"description": "The client has it"},
        **responses(404),
    },
)
async def get_image(
    gateway: GatewayDependency,
    caller: Annotated[Caller, Depends(require("events:read"))],
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of the image's file")],
    if_none_match: Annotated[str | None, Header(description="the ETag of the image that the client has")] = None,
) -> Response:
    """An image of a result. One that was stored to be shown exists for the scope ``truth:read`` only."""
    for pictures in (gateway.pictures, gateway.shown_pictures) if caller.sees_truth else (gateway.pictures,):
        # what is in memory is sent without a thread: a hundred dashboards ask for the same image at once
        picture = pictures.kept(digest) or await run_in_threadpool(pictures.get, digest)
        if picture is not None:
            headers = {**_HEADERS, "ETag": f'"{digest}"'}
            if if_none_match is not None and f'"{digest}"' in if_none_match:
                return Response(status_code=304, headers=headers)
            return Response(picture.payload, media_type=picture.media_type, headers=headers)
    raise NotFound("there is no such image", code="image.unknown")
