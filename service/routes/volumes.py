"""REST: volumes in. A volume is acknowledged when its payload is on the disk and its reference is in the log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.concurrency import run_in_threadpool

from mindsight.blobs import BlobWriter
from mindsight.errors import BadVolume
from mindsight.protocol.inputs import SkipVolume, StartRun, TakeVolume
from mindsight.volume import same_tr
from mindsight.volume_codec import VolumeHeader, read_header
from service.auth import require
from service.context import Gateway, GatewayDependency
from service.problems import responses
from service.routes.bodies import Missing, RunNumber, SessionId, VolumeAck, VolumeIndex
from service.transfer import pieces

router = APIRouter(prefix="/v1/sessions/{session}/runs/{run}/volumes/{index}", tags=["volumes"])


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
    """Put one volume (payload format MSV1). Volumes come in order; repeating one changes nothing.

    409 with ``volume.out_of_order`` names the ``expected_index``.
    """
    started = time.perf_counter()
    recorder = gateway.recorder(session)
    # an unknown session or run is refused before the body is read
    declared = (await run_in_threadpool(recorder.run, run)).declared
    body = pieces(request, gateway.settings.max_volume_bytes)
    with await run_in_threadpool(gateway.blobs.writer) as writer:
        try:
            header = await _receive(body, writer, declared, index)
            _check_motion(header, declared)
            _check_whole(writer, header, x_content_sha256)
        except BadVolume:
            async for _ in body:  # hear the sender out, so that it can hear the answer
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
    appended = await run_in_threadpool(recorder.take_volume, volume, received_ms)
    return await run_in_threadpool(_ack, gateway, session, run, index, digest, appended.duplicate)


@router.post(
    "/missing",
    dependencies=[Depends(require("volumes:write"))],
    responses=responses(404, 409, 507),
)
def mark_missing(
    gateway: GatewayDependency, session: SessionId, run: RunNumber, index: VolumeIndex, body: Missing | None = None
) -> VolumeAck:
    """Say that this volume will not come, so that the next one is in order."""
    reason = (body or Missing()).reason
    skipped = SkipVolume(t=gateway.now(), run=run, index=index, reason=reason)
    appended = gateway.recorder(session).skip_volume(skipped)
    return _ack(gateway, session, run, index, None, appended.duplicate)


async def _receive(body: AsyncIterator[bytes], writer: BlobWriter, declared: StartRun, index: int) -> VolumeHeader:
    """Write the body; its header, which is in the first piece, is judged before the rest is awaited."""
    header: VolumeHeader | None = None
    async for piece in body:
        if header is None:
            header = read_header(piece)
            if (header.run, header.index) != (declared.run, index):
                raise BadVolume(
                    f"expected volume {index} of run {declared.run}, got a payload that says {header.index} of"
                    f" {header.run}",
                    code="volume.misplaced",
                )
            if not same_tr(header.tr_s, declared.tr_s):
                raise BadVolume(
                    f"run {declared.run} was declared with a TR of {declared.tr_s:g} s, and its volume states"
                    f" {header.tr_s:g} s; declare a run with the TR that is right",
                    code="volume.tr_mismatch",
                )
        await run_in_threadpool(writer.write, piece)
    return header if header is not None else read_header(b"")


def _check_motion(header: VolumeHeader, declared: StartRun) -> None:
    if (header.motion_6 is None) != (declared.motion is None):
        expected = "no motion parameters" if declared.motion is None else "six motion parameters"
        raise BadVolume(
            f"expected {expected} with each volume, as run {declared.run} was declared; declare it so, or send volumes"
            " so",
            code="volume.motion",
        )


def _check_whole(writer: BlobWriter, header: VolumeHeader, announced_sha256: str | None) -> None:
    if writer.nbytes != header.total_bytes:
        raise BadVolume(
            f"expected {header.total_bytes} bytes, got {writer.nbytes}; send the payload whole",
            code="volume.payload_truncated" if writer.nbytes < header.total_bytes else "volume.payload_trailing",
        )
    if announced_sha256 is not None and announced_sha256.lower() != writer.digest:
        raise BadVolume("the payload is not what X-Content-SHA256 says; send it again", code="volume.digest_mismatch")


def _ack(gateway: Gateway, session: str, run: int, index: int, digest: str | None, duplicate: bool) -> VolumeAck:
    next_index = gateway.recorder(session).run(run).next_index
    return VolumeAck(index=index, digest=digest, duplicate=duplicate, next_index=next_index)
