"""The gateway, put together. Knows nothing of ports and processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount
from starlette.types import Scope

import mindsight
from mindsight.files.chain import Chain
from mindsight.processes import return_free_memory
from mindsight.settings import Settings
from service import asyncapi, erasures, openapi, problems
from service.audit import Audited
from service.conditional import Conditional
from service.context import Gateway
from service.framing import CheckedFraming
from service.headers import SecurityHeaders
from service.idempotency import Idempotent
from service.json_bodies import UniqueNames
from service.limits import BoundedBodies
from service.metrics import Measured
from service.routes import (
    archives,
    betas,
    calibrations,
    console_keys,
    events,
    feedback,
    health,
    images,
    instructions,
    jobs,
    keys,
    messages,
    metrics,
    pools,
    reports,
    results,
    rois,
    run_contents,
    runs,
    service,
    session_checks,
    sessions,
    sign_in,
    simulations,
    subject_rois,
    subjects,
    tickets,
    versions,
    views,
    volumes,
)
from service.static import PackedFiles

ROUTES = (
    archives,
    images,  # first: it is asked for most
    subjects,
    subject_rois,
    calibrations,
    versions,
    reports,
    pools,
    jobs,
    sessions,
    session_checks,
    simulations,
    instructions,
    console_keys,
    runs,
    run_contents,
    events,
    volumes,
    rois,
    views,
    results,
    feedback,
    betas,
    messages,
    health,
    metrics,
    tickets,
    keys,
    sign_in,
    service,
)
RETURN_S = 60.0  # between returns of freed memory
DASHBOARD = Path(__file__).parent / "dashboard"


def create_app(settings: Settings) -> FastAPI:
    """The gateway for these settings. It starts without a bus, and responds with 503 until there is one."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.blobs.sweep()
        gateway.shown.sweep()
        gateway.hub.start()
        lasting = [asyncio.create_task(work) for work in (erasures.keep_retention(gateway), _keep_memory())]
        if gateway.issuer is not None:
            gateway.issuer.start()
        yield
        for task in lasting:
            task.cancel()
        if gateway.issuer is not None:
            gateway.issuer.stop()
        await gateway.hub.stop()
        gateway.bus.close()

    app = FastAPI(
        title="Mindsight",
        version=mindsight.__version__,
        description="Real-time fMRI decoding: volumes and events in, retrievals and reconstructions out.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.gateway = gateway
    for lane, source in views.sources(gateway).items():
        gateway.hub.add_source(lane, source)
    problems.install(app)
    openapi.describe(app)
    for module in ROUTES:
        app.include_router(module.router)
    app.add_route("/v1/asyncapi.json", _asyncapi, include_in_schema=False)
    app.router.routes.append(_Dashboard("/", PackedFiles(directory=DASHBOARD, html=True, check_dir=False)))
    app.add_middleware(Idempotent, keys=gateway.keys, replies=gateway.replies)
    app.add_middleware(UniqueNames)
    app.add_middleware(BoundedBodies)
    app.add_middleware(Conditional)
    app.add_middleware(CheckedFraming, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Audited, chain=Chain(settings.audit_file))
    app.add_middleware(Measured, meter=gateway.meter)
    return app


async def _keep_memory() -> None:
    """What volumes and responses took goes back to the system, for as long as the gateway runs."""
    while True:
        await asyncio.sleep(RETURN_S)
        await to_thread.run_sync(return_free_memory)


async def _asyncapi(_: Request) -> Response:
    """The live streams, described. Like the description of the routes it needs no key."""
    return JSONResponse(asyncapi.document())


class _Dashboard(Mount):
    """The dashboard's files, except below /v1, where a wrong method (405) must differ from a wrong address (404)."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if scope["path"].startswith("/v1/") else super().matches(scope)
