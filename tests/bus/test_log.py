from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.bus import Bus, ConditionFailed, Entry, Log, read_many
from mindsight.errors import Conflict, Diverged, NotFound, OutOfOrder
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.inputs import SessionOptions

_examples = itertools.count()


def test_entries_are_numbered_and_come_back_as_written(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    payloads = [b"first", b"\x00\xff binary", b""]
    assert [log.append(f"k{i}", payload).seq for i, payload in enumerate(payloads)] == [1, 2, 3]
    expected = [Entry(i + 1, f"k{i}", payload) for i, payload in enumerate(payloads)]
    assert log.read() == expected
    assert log.read(after=1, limit=1) == expected[1:2]
    assert log.find("k2") == expected[2]
    assert log.find("k3") is None
    assert (log.last_seq(), Log(bus, name, "messages").last_seq()) == (3, 0)


def test_the_same_entry_again_is_a_duplicate_and_another_under_its_key_is_refused(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    log.append("a", b"1")
    log.append("b", b"2", identity="two")
    assert log.append("a", b"1").duplicate
    assert log.append("b", b"other bytes, same thing", identity="two").seq == 2
    with pytest.raises(Diverged):
        log.append("a", b"2")
    assert [entry.payload for entry in log.read()] == [b"1", b"2"]


def test_an_index_must_be_the_next_of_its_counter(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    log.append("v0", b"", order=("run-1", 0))
    with pytest.raises(OutOfOrder) as refused:
        log.append("v2", b"", order=("run-1", 2))
    assert refused.value.details["expected_index"] == 1
    log.append("v1", b"", order=("run-1", 1))
    assert log.append("v0", b"", order=("run-1", 0)).duplicate, "a late retry is a duplicate, not out of order"
    log.append("w0", b"", order=("run-2", 0))
    assert (log.next_index("run-1"), log.next_index("run-2"), log.next_index("run-3")) == (2, 1, 0)


def test_conditions_on_other_keys_hold_at_the_moment_of_writing(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    with pytest.raises(ConditionFailed) as missing:
        log.append("v0", b"", requires=["session", "run-1"], unless=["run-1-ended"])
    assert (missing.value.key, missing.value.present) == ("session", False)
    for key in ("session", "run-1"):
        log.append(key, b"")
    log.append("v0", b"", requires=["session", "run-1"], unless=["run-1-ended"])
    log.append("run-1-ended", b"")
    with pytest.raises(ConditionFailed) as ended:
        log.append("v1", b"", requires=["session", "run-1"], unless=["run-1-ended"])
    assert (ended.value.key, ended.value.present) == ("run-1-ended", True)
    assert log.append("v0", b"", requires=["session", "run-1"], unless=["run-1-ended"]).duplicate


def test_three_writers_racing_leave_no_gap_and_write_each_key_once(bus_url: str, name: str) -> None:
    outcomes: list[list[bool]] = [[], [], []]
    start = threading.Barrier(3)

    def write(number: int) -> None:
        log = Log(Bus(bus_url), name, "messages")
        start.wait(10)
        for i in range(100):
            log.append(f"own-{number}-{i}", b"")
            outcomes[number].append(log.append(f"contested-{i}", b"same").duplicate)
        log.bus.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    entries = Log(Bus(bus_url), name, "messages").read()
    assert [entry.seq for entry in entries] == list(range(1, 401))
    assert len({entry.key for entry in entries}) == 400
    assert all(sorted(duplicate) == [False, True, True] for duplicate in zip(*outcomes, strict=True))


def test_reading_several_logs_wakes_for_the_first_entry_and_gives_up_in_time(bus: Bus, name: str) -> None:
    quiet, busy = Log(bus, name, "quiet"), Log(bus, name, "busy")
    busy.append("old", b"")
    assert read_many({quiet: 0, busy: 1}, block_s=0.05) == {}
    writer = threading.Timer(0.1, lambda: busy.append("new", b"news"))
    writer.start()
    started = time.monotonic()
    assert read_many({quiet: 0, busy: 1}, block_s=5.0) == {busy: [Entry(2, "new", b"news")]}
    assert time.monotonic() - started < 4.0, "it slept through the entry"
    writer.join()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y"]), st.none() | st.integers(0, 3)), max_size=25
    )
)
def test_any_sequence_of_appends_ends_as_a_dictionary_would(bus: Bus, steps: list[tuple[str, str, int | None]]) -> None:
    log = Log(bus, f"property-{next(_examples)}", "input")
    model: dict[str, str] = {}
    next_index = 0
    for key, identity, index in steps:
        order = None if index is None else ("c", index)
        try:
            appended = log.append(key, identity.encode(), identity=identity, order=order)
        except Diverged:
            assert model[key] != identity
        except OutOfOrder as error:
            assert key not in model
            refused = (index, error.details["expected_index"])
            assert refused == (index, next_index) != (next_index, next_index)
        else:
            assert appended.duplicate == (key in model)
            next_index += order is not None and not appended.duplicate
            assert model.setdefault(key, identity) == identity
            assert appended.seq == list(model).index(key) + 1
    assert [(e.seq, e.key, e.payload.decode()) for e in log.read()] == [
        (i + 1, key, identity) for i, (key, identity) in enumerate(model.items())
    ]


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
