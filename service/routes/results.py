"""REST: what was decoded so far."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response

from mindsight.protocol import Captioned, Reconstruction, ReconstructionFit, Result, without_truth
from mindsight.stages import Stage
from service.auth import Caller, require
from service.blinding import sees_truth
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import Body, SessionId

router = APIRouter(prefix="/v1/sessions/{session}/results", tags=["results"])


class Results(Body):
    results: list[Result]
    reconstructions: list[Reconstruction]
    fits: list[ReconstructionFit]
    captions: list[Captioned]


@router.get(
    "",
    response_model=Results,
    responses=responses(404),
)
async def get_results(
    gateway: GatewayDependency,
    session: SessionId,
    caller: Annotated[Caller, Depends(require("events:read"))],
    run: Annotated[int | None, Query(ge=1)] = None,
    trial: Annotated[int | None, Query(ge=1)] = None,
    stage: Stage | None = None,
    after: Annotated[int, Query(ge=0, description="only what came after the message of this id")] = 0,
) -> Response:
    """All results, reconstructions, their fits and captions so far, in the order in which they came.

    Each has the ``id`` of its message: asked again with the highest as ``after``, it gives what came since.
    """

    truth = await sees_truth(gateway, session, caller)

    def read() -> str:
        found = [
            message if truth else without_truth(message)
            for message in gateway.journal(session).read_messages()
            if isinstance(message, Result | Reconstruction | ReconstructionFit | Captioned)
            and message.id > after
            and run in (None, message.run)
            and trial in (None, message.trial)
            and stage in (None, message.stage)
        ]
        return Results(
            results=[message for message in found if isinstance(message, Result)],
            reconstructions=[message for message in found if isinstance(message, Reconstruction)],
            fits=[message for message in found if isinstance(message, ReconstructionFit)],
            captions=[message for message in found if isinstance(message, Captioned)],
        ).model_dump_json()

    # read and written as text in a thread, a few at a time: volumes must not wait for whoever reads a whole log
    return Response(await to_thread.run_sync(read, limiter=gateway.reading), media_type="application/json")
