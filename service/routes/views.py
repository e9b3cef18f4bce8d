"""REST: volumes, masks, betas and voxels as a page shows them. Nothing of the stimulus is in them.

Views are NIfTI, down-sampled, made only when they are asked for, by the gateway, from payloads that are there: ingest
does nothing for them. A voxel's fit is in ingest's state alone; it answers when no volume waits.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mindsight.bus import Questions
from mindsight.errors import Conflict, NotFound
from mindsight.protocol import BetaReady, Message, SpaceKnown, VolumeProcessed, parse_message
from mindsight.protocol.inputs import TakeVolume, parse_input, volume_key
from mindsight.protocol.messages import Digest
from mindsight.protocol.stream import Lane, LatestHeader
from mindsight.protocol.voxels import VoxelCourse, VoxelQuestion
from mindsight.stages import Stage
from mindsight.volume_bounds import MAX_SIDE
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.lanes import Made, Source
from service.problems import responses
from service.routes.common import RunNumber, SessionId, VolumeIndex

ANSWER_S = 3.0
_LOOK_S = 0.05
_CACHE = "private, max-age=31536000, immutable"
_NIFTI = "application/octet-stream"
_SHOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {_NIFTI: {"schema": {"type": "string", "format": "binary"}}}, "description": "NIfTI-1"},
    304: {"description": "the view that If-None-Match names"},
}
_Side = Annotated[int, Query(ge=0, lt=MAX_SIDE, description="on the grid of the session's reference")]

router = APIRouter(prefix="/v1", tags=["views"])


@router.get(
    "/views/{digest}",
    response_class=Response,
    dependencies=[Depends(require("events:read"))],
    responses={**_SHOWN, **responses(404)},
)
async def get_view(
    request: Request,
    gateway: GatewayDependency,
    digest: Annotated[Digest, Path()],
    kind: Annotated[Literal["volume", "outline"], Query(description="outline: of a mask")] = "volume",
) -> Response:
    """A reference, or the outline of a mask, by the digest that ``space.known`` or ``roi.declared`` names."""
    make = partial(_draw_volume if kind == "volume" else _draw_outline, gateway, digest)
    return await _respond(request, gateway, f"{kind}-{digest}", make)


@router.get(
    "/sessions/{session}/runs/{run}/volumes/{index}/view",
    response_class=Response,
    dependencies=[Depends(require("events:read"))],
    responses={**_SHOWN, **responses(404)},
)
async def get_volume_view(
    request: Request, gateway: GatewayDependency, session: SessionId, run: RunNumber, index: VolumeIndex
) -> Response:
    """A volume as it was received, in scanner coordinates; ``run.placed`` has the way to the subject's space."""
    digest = await run_in_threadpool(_digest_of, gateway, session, run, index)
    return await _respond(request, gateway, f"volume-{digest}", partial(_draw_volume, gateway, digest))


@router.get(
    "/sessions/{session}/runs/{run}/trials/{trial}/beta",
    response_class=Response,
    dependencies=[Depends(require("events:read"))],
    responses={**_SHOWN, **responses(404)},
)
async def get_beta_view(
    request: Request,
    gateway: GatewayDependency,
    session: SessionId,
    run: RunNumber,
    trial: Annotated[int, Path(ge=1, le=1_000_000, description="number of the trial in its run")],
    stage: Annotated[Stage, Query()] = "final",
) -> Response:
    """A trial's beta at one stage, in percent of the reference's signal, on the reference's grid."""
    name, make = await run_in_threadpool(_beta_of, gateway, session, run, trial, stage)
    return await _respond(request, gateway, name, make)


@router.get(
    "/sessions/{session}/runs/{run}/voxel",
    response_model_exclude_none=True,
    dependencies=[Depends(require("events:read"))],
    responses=responses(404, 409),
)
async def get_voxel(
    gateway: GatewayDependency,
    session: SessionId,
    run: RunNumber,
    x: _Side,
    y: _Side,
    z: _Side,
    trial: Annotated[int | None, Query(ge=1, le=1_000_000, description="whose design is fitted")] = None,
) -> VoxelCourse:
    """One voxel's data and fit so far, of the latest run of an open session.

    An answer is at most two seconds old. 409 (``voxel.busy``) while ingest has volumes to process: try again.
    """
    record = await run_in_threadpool(gateway.sessions.get, session)
    if record.state != "open":
        raise NotFound("a voxel's fit is kept while its session is open; the archive has the data", code="voxel.closed")
    questions = Questions(gateway.bus, session)
    asked = VoxelQuestion(run=run, voxel=(x, y, z), trial=trial).model_dump_json()
    answer = await run_in_threadpool(questions.read, asked)
    if answer is None:
        await run_in_threadpool(questions.ask, asked)
    until = asyncio.get_running_loop().time() + ANSWER_S
    while answer is None:
        if asyncio.get_running_loop().time() > until:
            raise Conflict(
                "expected ingest to have a moment, it is busy or this run is not the latest: try again",
                code="voxel.busy",
            )
        await asyncio.sleep(_LOOK_S)
        answer = await run_in_threadpool(questions.read, asked)
    return VoxelCourse.model_validate_json(answer)


def sources(gateway: Gateway) -> dict[Lane, Source]:
    """The lanes of views: the newest volume that ingest is done with, and the newest beta, as gzipped NIfTI."""

    def volume(session: str, message: Message) -> Made | None:
        assert isinstance(message, VolumeProcessed)
        digest = _digest_of(gateway, session, message.run, message.index)
        packed = gateway.views.get(f"volume-{digest}", partial(_draw_volume, gateway, digest))
        return _header(gateway, "volumes", message, run=message.run, index=message.index), packed

    def beta(session: str, message: Message) -> Made | None:
        assert isinstance(message, BetaReady)
        name, make = _beta_of(gateway, session, message.run, message.trial, message.stage)
        named = {"run": message.run, "trial": message.trial, "stage": message.stage}
        return _header(gateway, "betas", message, **named), gateway.views.get(name, make)

    return {
        "volumes": Source(frozenset({"volume.processed"}), volume),
        "betas": Source(frozenset({"beta.ready"}), beta),
    }


def _header(gateway: Gateway, lane: Lane, message: Message, **named: int | str) -> LatestHeader:
    return LatestHeader(
        lane=lane, message=message.id, t=gateway.now(), media_type="application/gzip", details={**named}
    )


def _digest_of(gateway: Gateway, session: str, run: int, index: int) -> str:
    """A volume's payload. Raises NotFound (``volume.unknown``)."""
    entry = gateway.journal(session).inputs.find(volume_key(run, index))
    taken = None if entry is None else parse_input(entry.payload)
    if not isinstance(taken, TakeVolume):
        raise NotFound("there is no such volume", code="volume.unknown")
    return taken.digest


def _beta_of(gateway: Gateway, session: str, run: int, trial: int, stage: Stage) -> tuple[str, Callable[[], bytes]]:
    """Name of a beta's view, and what makes it. Raises NotFound (``beta.unknown``)."""
    found = gateway.journal(session).messages.look([f"beta-{run}-{trial}-{stage}", "space"])
    beta, space = (None if entry is None else parse_message(entry.payload) for entry in found[0])
    if not isinstance(beta, BetaReady) or not isinstance(space, SpaceKnown):
        raise NotFound(f"there is no {stage} beta of trial {trial} in run {run}", code="beta.unknown")
    return f"beta-{beta.beta}-{space.mask}-{space.reference}", partial(_draw_beta, gateway, beta, space)


# numpy is imported with the first view, in the thread that makes it: the gateway starts without, and no request waits.


def _draw_volume(gateway: Gateway, digest: str) -> bytes:
    from service.views import volume_of

    return volume_of(gateway.blobs, digest)


def _draw_outline(gateway: Gateway, digest: str) -> bytes:
    from service.views import outline_of

    return outline_of(gateway.blobs, digest)


def _draw_beta(gateway: Gateway, beta: BetaReady, space: SpaceKnown) -> bytes:
    from service.views import beta_of

    return beta_of(gateway.blobs, beta.beta, space.mask, space.reference)


async def _respond(request: Request, gateway: Gateway, name: str, make: Callable[[], bytes]) -> Response:
    """The view as it is kept, or that the caller has it already: what has this name never changes."""
    headers = {"ETag": f'"{name}"', "Cache-Control": _CACHE, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    packed = await to_thread.run_sync(gateway.views.get, name, make, limiter=gateway.reading)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=_NIFTI, headers={**headers, "Content-Encoding": "gzip"})
    return Response(gzip.decompress(packed), media_type=_NIFTI, headers=headers)
