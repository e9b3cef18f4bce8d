"""Asking for an erasure: of a subject, of a session, and of every session that is older than the site keeps them.

Knows nothing of how it is carried out: that is a job.
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from anyio import to_thread

from mindsight.errors import Conflict, MindsightError
from mindsight.files.chain import Chain
from mindsight.protocol.jobs import ErasureTask, JobRecord
from service.context import Gateway

LOOK_S = 600.0
DAY_S = 86_400.0


def erase(gateway: Gateway, task: ErasureTask) -> JobRecord:
    """Create the job, and forget the keys that open what it erases.

    Raises Conflict: ``subject.busy`` while a session of the subject is not archived, ``job.busy`` while a job works on
    it.
    """
    of = gateway.sessions.list(subject=task.subject)
    if unfinished := [record.session for record in of if record.state != "archived"]:
        raise Conflict(
            f"expected no unfinished session of this subject, {unfinished[0]} is: close it, and wait for its archive",
            code="subject.busy",
        )
    job = JobRecord(job=f"job-{secrets.token_hex(4)}", task=task, created_t=gateway.now())
    created = gateway.jobs.create(job)
    gateway.keys.forget({record.session for record in of if task.session in (None, record.session)})
    return created


async def keep_retention(gateway: Gateway) -> None:
    """Erase sessions that were opened longer ago than ``Settings.retention_days``, for as long as the gateway runs."""
    while True:
        try:
            await to_thread.run_sync(erase_old, gateway)
        except (MindsightError, OSError) as error:
            print(f"mindsight gateway: retention: {error}", file=sys.stderr, flush=True)
        await asyncio.sleep(LOOK_S)


def erase_old(gateway: Gateway) -> list[str]:
    """Ask for the erasure of each session that is too old; of a subject that is busy, the next time. Which these are.

    The audit log has a line for each, with the key ``retention``.
    """
    days = gateway.settings.retention_days
    if days is None:
        return []
    asked = []
    for record in gateway.sessions.list():
        if record.state != "archived" or record.opened_t > gateway.now() - days * DAY_S:
            continue
        try:
            job = erase(gateway, ErasureTask(subject=record.subject, session=record.session))
        except Conflict:
            continue
        line = {"t": round(gateway.now(), 3), "key": "retention", "role": "service", "job": job.job}
        Chain(gateway.settings.audit_file).append({**line, "of": {"session": record.session}})
        asked.append(record.session)
    return asked
