from __future__ import annotations

import pytest

from mindsight.bus import Bus
from mindsight.errors import Conflict, NotFound
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.inputs import SessionOptions


def test_sessions_are_created_once_and_only_move_on(bus: Bus, name: str) -> None:
    sessions = Sessions(bus)
    record = SessionRecord(session=name, subject="sub-1", options=SessionOptions(fast_s=6.0), opened_t=1.0)
    assert sessions.create(record) == record
    assert sessions.create(record.model_copy(update={"opened_t": 2.0})) == record, "a retry finds the first"
    with pytest.raises(Conflict):
        sessions.create(record.model_copy(update={"subject": "sub-2"}))
    sessions.advance(name, "archived")
    sessions.advance(name, "closed")
    assert sessions.get(name).state == "archived"
    assert name in [found.session for found in sessions.list()]
    with pytest.raises(NotFound):
        sessions.get(name + "x")
    with pytest.raises(NotFound):
        sessions.advance(name + "x", "closed")
