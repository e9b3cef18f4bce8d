"""REST: subjects. Knows nothing of who they are."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.subjects.registry import Subject
from service import bundles
from service.auth import require
from service.context import GatewayDependency
from service.problems import responses
from service.routes.common import NAME_PATTERN, Body

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])


class Enrol(Body):
    bundle: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="the subject bundle that decodes this subject"
    )


class SetBundle(Body):
    bundle: str = Field(pattern=NAME_PATTERN)


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def enrol_subject(gateway: GatewayDependency, body: Enrol | None = None) -> Subject:
    """Enrol a subject and give it a random pseudonym; this service never stores who the subject is."""
    bundle = body.bundle if body else None
    bundles.check_exists(gateway.settings, bundle)
    return gateway.registry.enrol(gateway.now(), bundle)


@router.get(
    "",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses=responses(),
)
def list_subjects(gateway: GatewayDependency) -> list[Subject]:
    return gateway.registry.list()


@router.put(
    "/{subject}/bundle",
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def set_bundle(gateway: GatewayDependency, subject: str, body: SetBundle) -> Subject:
    """Choose the bundle that decodes the sessions opened from now on."""
    bundles.check_exists(gateway.settings, body.bundle)
    return gateway.registry.set_bundle(subject, body.bundle)
