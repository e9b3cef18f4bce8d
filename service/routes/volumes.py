"""REST: volumes in. A volume is acknowledged when its payload is on the disk and its reference is in the log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from mindsight.blobs import BlobWriter
from mindsight.bus import Appended
from mindsight.errors import BadVolume
from mindsight.protocol.inputs import SkipVolume, StartRun, TakeVolume
from mindsight.protocol.messages import Digest
from mindsight.volume_bounds import same_tr
from mindsight.volume_header import VolumeHeader, read_header
from service.auth import require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body, RunNumber, Sent, SessionId, VolumeIndex
from service.transfer import pieces

router = APIRouter(prefix="/v1/sessions/{session}/runs/{run}/volumes/{index}", tags=["volumes"])


class Missing(Sent):
    reason: str = Field(default="not received", max_length=200)


class VolumeAck(Body):
    """The volume is durable and logged; it need not be sent again."""

    index: int
    digest: Digest | None = Field(description="sha256 of the payload; null for a missing volume")
    durable: Literal[True] = True
    duplicate: bool
    next_index: int


@router.put(
    "",
    dependencies=[Depends(require("volumes:write"))],
    responses=responses(404, 408, 409, 413, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_volume(
    request: Request,
    gateway: GatewayDependency,
    session: SessionId,
    run: RunNumber,
    index: VolumeIndex,
    x_content_sha256: Annotated[str | None, Header(description="checked against the body")] = None,
) -> VolumeAck:
    """Put one volume (payload format MSV1). Volumes come in order; sending one again changes nothing.

    409 with ``volume.out_of_order`` names the ``expected_index``.
    """
    started = time.perf_counter()
    # an unknown session or run is refused before the body is read
    declared = (await run_in_threadpool(gateway.journal(session).run, run)).declared
    body = pieces(request, gateway.settings.max_volume_bytes)
    with await run_in_threadpool(gateway.blobs.writer) as writer:
        try:
            header = await _receive(body, writer, declared, index)
            _check_motion(header, declared)
            _check_whole(writer, header, x_content_sha256)
        except BadVolume:
            async for _ in body:  # drain the body: some clients read the response only then
                pass
            raise
        digest = await run_in_threadpool(writer.commit)
    now = gateway.now()
    volume = TakeVolume(
        t=now,
        run=run,
        index=index,
        digest=digest,
        shape=header.shape,
        nbytes=writer.nbytes,
        acquired_s=header.acquired_s,
        acked_t=now,
    )
    received_ms = (time.perf_counter() - started) * 1000
    appended = await run_in_threadpool(gateway.recorder(session).take_volume, volume, received_ms)
    return _ack(index, digest, appended)


@router.post(
    "/missing",
    dependencies=[Depends(require("volumes:write"))],
    responses=responses(404, 409, 507),
)
def mark_missing(
    gateway: GatewayDependency, session: SessionId, run: RunNumber, index: VolumeIndex, body: Missing | None = None
) -> VolumeAck:
    """Declare that this volume will not come, so that the next one is in order."""
    reason = (body or Missing()).reason
    skipped = SkipVolume(t=gateway.now(), run=run, index=index, reason=reason)
    appended = gateway.recorder(session).skip_volume(skipped)
    return _ack(index, None, appended)


async def _receive(body: AsyncIterator[bytes], writer: BlobWriter, declared: StartRun, index: int) -> VolumeHeader:
    """Write the body; its header, which is in the first piece, is checked before the rest is read."""
    header: VolumeHeader | None = None
    async for piece in body:
        if header is None:
            header = read_header(piece)
            if (header.run, header.index) != (declared.run, index):
                raise BadVolume(
                    f"expected volume {index} of run {declared.run}, got a payload with volume {header.index} of"
                    f" run {header.run}",
                    code="volume.misplaced",
                )
            if not same_tr(header.tr_s, declared.tr_s):
                raise BadVolume(
                    f"expected a TR of {declared.tr_s:g} s, as run {declared.run} was declared, got {header.tr_s:g} s;"
                    " declare a run with the right TR",
                    code="volume.tr_mismatch",
                )
        await run_in_threadpool(writer.write, piece)
    return header if header is not None else read_header(b"")


def _check_motion(header: VolumeHeader, declared: StartRun) -> None:
    if (header.motion_6 is None) != (declared.motion is None):
        expected = "no motion parameters" if declared.motion is None else "six motion parameters"
        raise BadVolume(
            f"expected {expected} with each volume, as run {declared.run} was declared, got the opposite; change the"
            " declaration or the volumes",
            code="volume.motion",
        )


def _check_whole(writer: BlobWriter, header: VolumeHeader, announced_sha256: str | None) -> None:
    if writer.nbytes != header.total_bytes:
        raise BadVolume(
            f"expected {header.total_bytes} bytes, got {writer.nbytes}; send the payload whole",
            code="volume.payload_truncated" if writer.nbytes < header.total_bytes else "volume.payload_trailing",
        )
    if announced_sha256 is not None and announced_sha256.lower() != writer.digest:
        raise BadVolume(
            "expected the payload that X-Content-SHA256 announces, got another; send it again",
            code="volume.digest_mismatch",
        )


def _ack(index: int, digest: str | None, appended: Appended) -> VolumeAck:
    return VolumeAck(index=index, digest=digest, duplicate=appended.duplicate, next_index=appended.next_index)
