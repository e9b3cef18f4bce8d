"""Who sees what was shown. Knows nothing of routes."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from mindsight.journal.sessions import SessionRecord
from service.auth import Caller
from service.context import Gateway


async def sees_truth(gateway: Gateway, session: str, caller: Caller) -> bool:
    """Whether what was shown is sent now: the key needs the scope, and a blinded session must be closed or unblinded.

    Raises NotFound for an unknown session.
    """
    record = await run_in_threadpool(gateway.sessions.get, session)
    return may_see_truth(record, caller)


def may_see_truth(record: SessionRecord, caller: Caller) -> bool:
    """The same of a record that was read."""
    return caller.sees_truth and not record.hides_truth
