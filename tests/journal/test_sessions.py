from __future__ import annotations

from typing import Any

import pytest

from mindsight.bus import Bus
from mindsight.bus.forget import mentions
from mindsight.errors import Conflict, NotFound
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.inputs import SessionOptions
from support.other_version import of_another_version


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


def opened(bus: Bus, name: str, bundle: str | None = None) -> Sessions:
    sessions = Sessions(bus)
    sessions.create(SessionRecord(session=name, subject="sub-1", bundle=bundle, opened_t=1.0))
    return sessions


def archived(bus: Bus, name: str) -> Sessions:
    sessions = opened(bus, name, "before")
    sessions.set_bundle(name, "after")
    sessions.set_blinded(name, True, 2)
    sessions.advance(name, "archived")
    return sessions


def forget_list(bus: Bus) -> None:
    """As an older version leaves the bus, which had no list of current sessions."""
    bus.command("DEL", "sessions:{all}:current")


def test_what_workers_ask_for_all_the_time_is_as_short_after_years(
    bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = opened(bus, name, "sub-1-1")
    for number in range(200):
        archived(bus, f"{name}-{number}").settle(f"{name}-{number}")
    replies: list[Any] = []
    command, commands = bus.command, bus.commands
    monkeypatch.setattr(bus, "command", lambda *args: replies.append(found := command(*args)) or found)
    monkeypatch.setattr(bus, "commands", lambda asked: replies.append(found := commands(asked)) or found)
    assert name in [record.session for record in sessions.unfinished()]
    assert sessions.bundles_in_use() >= {"sub-1-1"}
    assert f"{name}-7" not in sessions.unsealed()
    assert len(replies) >= 3
    assert f"{name}-7" not in repr(replies), "no archived session is read"
    monkeypatch.undo()
    assert len([record for record in sessions.list() if record.session.startswith(name)]) == 201


def test_a_session_is_unfinished_until_archived_and_unsealed_until_settled(bus: Bus, name: str) -> None:
    sessions = opened(bus, name, "before")
    sessions.set_bundle(name, "after")
    sessions.settle(name)
    sessions.advance(name, "closed")
    assert (name in [r.session for r in sessions.unfinished()], name in sessions.unsealed()) == (True, False)
    assert sessions.bundles_in_use() >= {"before", "after"}
    sessions.advance(name, "archived")
    assert (name in [r.session for r in sessions.unfinished()], name in sessions.unsealed()) == (False, True)
    assert not sessions.bundles_in_use() & {"before", "after"}
    sessions.settle(name)
    opened(bus, name, "before")  # its request comes again
    assert name not in sessions.unsealed()


def test_sessions_of_an_older_version_are_found(bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindsight.journal.sessions._PAGE", 50)
    sessions = archived(bus, f"{name}-archived")
    for number in range(600):  # more than one page, and than a small hash has
        opened(bus, f"{name}-{number}")
    forget_list(bus)
    assert not sessions.unfinished()
    sessions.find_unlisted()
    assert {record.session for record in sessions.unfinished()} >= {f"{name}-{number}" for number in range(600)}
    assert f"{name}-archived" in sessions.unsealed()
    for number in range(600):
        sessions.forget(f"{name}-{number}")


def test_an_erased_session_is_in_no_list(bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = archived(bus, name)
    sessions.forget(name)
    assert not mentions(bus, lambda text: name.encode() == text)
    sessions.find_unlisted()
    assert not sessions.has(name)
    assert name not in repr((sessions.unsealed(), bus.command("SMEMBERS", "sessions:{all}:current")))
    archived(bus, name)
    of = bus.commands
    monkeypatch.setattr(bus, "commands", lambda asked: (sessions.forget(name), of(asked))[1])  # erased between the two
    sessions.find_unlisted()
    assert name.encode() not in bus.command("SMEMBERS", "sessions:{all}:current")


def test_the_list_is_that_of_a_subject_or_the_newest_in_the_order_of_opening(bus: Bus, name: str) -> None:
    sessions = Sessions(bus)
    for number, subject in ((3, "a"), (1, "a"), (2, "b"), (4, "a")):
        record = SessionRecord(session=f"{name}-{number}", subject=f"sub-{name}{subject}", opened_t=1e9 + number)
        sessions.create(record)
    sessions.set_bundle(f"{name}-3", "other")
    of_a = sessions.list(subject=f"sub-{name}a")
    assert [(record.session[-1], record.bundle) for record in of_a] == [("1", None), ("3", "other"), ("4", None)]
    assert [record.session[-1] for record in sessions.list(subject=f"sub-{name}a", newest=2)] == ["3", "4"]
    assert [record.session for record in sessions.list(newest=3)] == [f"{name}-{number}" for number in (2, 3, 4)]
    assert sessions.list(newest=10**6) == sessions.list()
    assert sessions.list(subject="sub-nobody") == []


def test_a_session_of_another_version_keeps_nobody_from_the_others(bus: Bus, name: str) -> None:
    sessions = opened(bus, f"{name}-a", "kept")
    opened(bus, f"{name}-b", "lost")
    of_another_version(bus, "sessions", f"{name}-b")
    try:
        for found in (sessions.list(), sessions.unfinished()):
            names = {record.session for record in found}
            assert (f"{name}-a" in names, f"{name}-b" in names) == (True, False)
        assert sessions.names() >= {f"{name}-a", f"{name}-b"}
        for ask in (lambda: sessions.get(f"{name}-b"), lambda: opened(bus, f"{name}-b"), sessions.bundles_in_use):
            with pytest.raises(Conflict, match="install that version") as unreadable:
                ask()
            assert unreadable.value.code == "session.unreadable"
    finally:
        sessions.forget(f"{name}-b")
    assert "kept" in sessions.bundles_in_use()
