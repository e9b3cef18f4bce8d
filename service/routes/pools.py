"""REST: candidate pools, built as jobs. Knows nothing of how images are embedded."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.errors import Conflict, NotFound
from mindsight.protocol.jobs import JOB_PATTERN, JobRecord, PoolImage, PoolTask
from mindsight.subjects.bundle.description import ids_in
from service.auth import require
from service.context import GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes import jobs
from service.routes.common import NAME_PATTERN, Body, Sent

router = APIRouter(prefix="/v1/pools", tags=["pools"])


class BuildPool(Sent):
    pool: str = Field(pattern=NAME_PATTERN, description="its name")
    images: list[PoolImage] = Field(
        default=[], max_length=10_000, description="images that were uploaded with POST /v1/images, each with its id"
    )
    folder: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="instead: a folder of images in the service's own stimuli"
    )
    job: str | None = Field(
        default=None,
        pattern=JOB_PATTERN,
        description="an id of your own makes the request safe to repeat; by default one is made up",
    )


class Pool(Body):
    pool: str
    size: int | None = Field(description="candidates; null if the pool cannot be read")


@router.post("", status_code=201, dependencies=[Depends(require("subjects:write"))], responses=responses(404, 409, 507))
def build_pool(gateway: GatewayDependency, body: BuildPool) -> JobRecord:
    """Build a pool of images. The job is done when the pool can be used; see /v1/jobs."""
    task = jobs.task_of(PoolTask, pool=body.pool, images=tuple(body.images), folder=body.folder)
    if body.folder is not None and not (gateway.settings.stimuli_dir / body.folder).is_dir():
        raise NotFound(
            f"there is no folder {body.folder} in the service's stimuli: put the images there, or upload them",
            code="pool.images",
        )
    missing = [image.id for image in body.images if not gateway.shown.exists(image.image)]
    if missing:
        raise NotFound(
            f"expected images that were uploaded, {len(missing)} were not, e.g. of {missing[0]!r}: POST /v1/images"
            " first",
            code="image.unknown",
        )
    there = (gateway.settings.pools_dir / body.pool).exists()
    if there and (body.job is None or not gateway.jobs.has(body.job)):
        raise Conflict("a pool of this name exists; name another", code="pool.exists")
    return jobs.create(gateway, task, body.job)


@router.get(
    "",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_pools(gateway: GatewayDependency, page: PageDependency) -> list[Pool]:
    """The pools that can be used, by name."""
    names = sorted(path.parent.name for path in gateway.settings.pools_dir.glob("*/pool.json"))
    names = page.of([name for name in names if not name.endswith(".partial")], str)
    ids = {name: ids_in(gateway.settings.pools_dir / name) for name in names}
    return [Pool(pool=name, size=None if found is None else len(found)) for name, found in ids.items()]
