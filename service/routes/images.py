"""REST: images, by the digest of their content. Serves images only: never a volume or a beta."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mindsight.errors import BadRequest, NotFound
from mindsight.files.images import image_kind
from mindsight.protocol.messages import Digest
from service.auth import Caller, require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body
from service.transfer import read_body

MAX_IMAGE_BYTES = 8 * 1024 * 1024
_MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}
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
    if image_kind(payload) not in _MEDIA_TYPES:
        raise BadRequest("expected a PNG or a JPEG", code="image.format")
    return Image(digest=await run_in_threadpool(gateway.shown.put, payload))


@router.get(
    "/{digest}",
    response_class=Response,
    responses={200: {"content": dict.fromkeys(("image/png", "image/jpeg"), _BINARY)}, **responses(404)},
)
def get_image(
    gateway: GatewayDependency,
    caller: Annotated[Caller, Depends(require("events:read"))],
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
) -> Response:
    """An image of a result. One that was stored to be shown exists for the scope ``truth:read`` only."""
    for store in (gateway.blobs, gateway.shown) if caller.sees_truth else (gateway.blobs,):
        path = store.path(digest)
        if path.exists() and path.stat().st_size <= MAX_IMAGE_BYTES:
            payload = store.get(digest)
            if media_type := _MEDIA_TYPES.get(image_kind(payload) or ""):
                headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
                return Response(payload, media_type=media_type, headers=headers)
    raise NotFound("there is no such image", code="image.unknown")
