from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.bus import Bus, ConditionFailed, Entry, Log, Unlike, read_many
from mindsight.errors import Diverged, OutOfOrder

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


@pytest.mark.parametrize("other", ["", "-other"])
def test_reading_several_logs_wakes_for_the_first_entry_and_gives_up_in_time(bus: Bus, name: str, other: str) -> None:
    """Of one session, and of two, which a Cluster may keep on two servers."""
    quiet, busy = Log(bus, name + other, "quiet"), Log(bus, name, "busy")
    busy.append("old", b"")
    assert read_many({quiet: 0, busy: 1}, block_s=0.05) == {}
    writer = threading.Timer(0.1, lambda: busy.append("new", b"news"))
    writer.start()
    started = time.monotonic()
    assert read_many({quiet: 0, busy: 1}, block_s=5.0) == {busy: [Entry(2, "new", b"news")]}
    assert time.monotonic() - started < 4.0, "it slept through the entry"
    writer.join()
    quiet.append("also", b"")
    assert read_many({quiet: 0, busy: 0}, block_s=5.0, limit=1) == {
        quiet: [Entry(1, "also", b"")],
        busy: [Entry(1, "old", b"")],
    }


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


def test_all_entries_of_a_counter_share_the_trait_of_the_first_that_has_one(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    log.append("v0", b"", order=("run-1", 0))
    log.append("v1", b"", order=("run-1", 1), trait="2x2")
    with pytest.raises(Unlike) as refused:
        log.append("v2", b"", order=("run-1", 2), trait="3x3")
    assert refused.value.expected == "2x2"
    log.append("v2", b"", order=("run-1", 2))
    assert log.append("v3", b"", order=("run-1", 3), trait="2x2").next_index == 4
    assert log.append("v1", b"", order=("run-1", 1), trait="2x2").duplicate
    with pytest.raises(Diverged):
        log.append("v1", b"other", order=("run-1", 1), trait="9x9")
    log.append("w0", b"", order=("run-2", 0), trait="3x3")
    assert log.last_seq() == 5


def test_entries_and_counters_are_looked_at_together(bus: Bus, name: str) -> None:
    log = Log(bus, name, "input")
    log.append("a", b"\x00\xff")
    log.append("b", b"", order=("run-1", 0))
    entries, counters = log.look(["b", "c", "a"], ["run-2", "run-1"])
    assert entries == [Entry(2, "b", b""), None, Entry(1, "a", b"\x00\xff")]
    assert counters == [0, 1]
    assert log.look([], ["run-1"]) == ([], [1])
    assert log.look([]) == ([], [])
