"""REST: subjects. Knows nothing of who they are."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from mindsight.protocol.jobs import ErasureTask, JobRecord
from mindsight.subjects.registry import Consent, Subject
from service import bundles, erasures
from service.auth import require
from service.context import GatewayDependency
from service.paging import NEXT_PAGE, PageDependency
from service.problems import responses
from service.routes.common import NAME_PATTERN, Sent

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])


class Enrol(Sent):
    bundle: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="the subject bundle that decodes this subject"
    )
    consent: Consent | None = Field(default=None, description="what the subject's data may be used for")


class SetBundle(Sent):
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
    return gateway.registry.enrol(gateway.now(), bundle, body.consent if body else None)


@router.get(
    "",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses={**NEXT_PAGE, **responses(404)},
)
def list_subjects(gateway: GatewayDependency, page: PageDependency) -> list[Subject]:
    """All subjects, by their pseudonyms."""
    return page.of(gateway.registry.list(), lambda subject: subject.subject)


@router.get(
    "/{subject}",
    dependencies=[Depends(require("subjects:write", "events:read"))],
    responses=responses(404),
)
def get_subject(gateway: GatewayDependency, subject: str) -> Subject:
    """The subject's bundle, and what its data may be used for."""
    return gateway.registry.get(subject)


@router.put(
    "/{subject}/consent",
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def state_consent(gateway: GatewayDependency, subject: str, body: Consent) -> Subject:
    """State what the subject has agreed to, in place of what was stated before. It holds from the next request on."""
    return gateway.registry.set_consent(subject, body)


@router.delete(
    "/{subject}",
    status_code=202,
    dependencies=[Depends(require("admin"))],
    responses=responses(404, 409, 507),
)
def erase_subject(gateway: GatewayDependency, subject: str) -> JobRecord:
    """Erase a subject, as a job: its sessions, archives, bundles, jobs, and what only they refer to.

    It cannot be undone. Refused while a session of the subject is not archived (``subject.busy``), or a job works on it
    (``job.busy``).
    """
    gateway.registry.get(subject)
    return erasures.erase(gateway, ErasureTask(subject=subject))


@router.put(
    "/{subject}/bundle",
    dependencies=[Depends(require("subjects:write"))],
    responses=responses(404),
)
def set_bundle(gateway: GatewayDependency, subject: str, body: SetBundle) -> Subject:
    """Choose the bundle that decodes the sessions opened from now on."""
    bundles.check_exists(gateway.settings, body.bundle)
    return gateway.registry.set_bundle(subject, body.bundle)
