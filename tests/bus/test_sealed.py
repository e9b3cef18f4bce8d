"""A sealed log is read, found and recognised as it was on the bus, and nothing is added to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mindsight.bus import Bus, ConditionFailed, Log
from mindsight.bus.forget import forget_logs
from mindsight.errors import BadRequest, Conflict, Diverged
from mindsight.settings import Settings

N = 25


@pytest.fixture
def log(bus_url: str, settings: Settings, name: str) -> Iterator[Log]:
    bus = Bus(bus_url, sealed_dir=settings.sealed_dir)
    log = Log(bus, name, "input")
    for i in range(N):
        log.append(f"volume-{i}", f'{{"i": {i}, "text": "ä\\n"}}'.encode(), order=("run-1", i))
    log.append("raw", b"\xff\xfe\n\x00", identity="mine")
    yield log
    bus.close()


def test_it_is_read_as_before_and_the_bus_holds_next_to_nothing(log: Log) -> None:
    before = log.read(), log.read(7, 5), log.look(["volume-3", "none", "raw"], ["run-1"]), log.last_seq()
    assert log.seal()
    assert (log.read(), log.read(7, 5), log.look(["volume-3", "none", "raw"], ["run-1"]), log.last_seq()) == before
    assert log.find("none") is None
    assert log.read(N + 1) == []
    left = [key for key in log.bus.all_keys() if log.session.encode() in key]
    assert left == [f"s:{{{log.session}}}:input:order".encode()]
    assert log.seal()


def test_what_was_written_is_a_duplicate_and_nothing_is_added(log: Log) -> None:
    log.seal()
    again = log.append("volume-3", b'{"i": 3, "text": "\xc3\xa4\\n"}', order=("run-1", 3))
    assert (again.seq, again.duplicate, again.next_index) == (4, True, N)
    assert log.append("raw", b"another", identity="mine").duplicate
    with pytest.raises(Diverged):
        log.append("volume-3", b"other", order=("run-1", 3))
    with pytest.raises(ConditionFailed) as failed:
        log.append("new", b"x", unless=["volume-2"])
    assert (failed.value.key, failed.value.present) == ("volume-2", True)
    with pytest.raises(ConditionFailed) as failed:
        log.append("new", b"x", requires=["volume-2", "volume-99"])
    assert (failed.value.key, failed.value.present) == ("volume-99", False)
    with pytest.raises(Conflict, match="archived"):
        log.append("new", b"x")
    assert log.last_seq() == N + 1


def test_a_file_from_before_a_last_entry_is_not_believed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ended between the file and the bus, and the log was written on."""
    with monkeypatch.context() as stopped:
        stopped.setattr(log.bus, "run", lambda *_: 0)
        assert not log.seal()
    log.append("later", b"later")
    assert log.read()[-1].key == "later"
    assert log.find("later") is not None
    assert log.find("volume-1") is not None
    assert log.seal()
    assert [entry.key for entry in log.read()][-2:] == ["raw", "later"]


def test_another_process_reads_it_and_a_damaged_file_is_named(log: Log, bus_url: str, settings: Settings) -> None:
    log.seal()
    (file,) = settings.sealed_dir.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    content = file.read_bytes()
    for damaged in (content[:-3], content[:50], b"", content + b"x"):
        file.write_bytes(damaged)
        bus = Bus(bus_url, sealed_dir=settings.sealed_dir)
        with pytest.raises(BadRequest, match=file.name):
            Log(bus, log.session, "input").read()
        bus.close()


def test_forgetting_takes_the_file_and_no_other_sessions(log: Log, settings: Settings) -> None:
    other = Log(log.bus, f"{log.session}-b", "input")
    other.append("one", b"1")
    log.seal()
    other.seal()
    forget_logs(log.bus, log.session)
    assert log.read() == []
    assert [entry.key for entry in other.read()] == ["one"]
