from __future__ import annotations

import time

import pytest

from mindsight.bus import Bus, Log
from mindsight.errors import NotFound
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal, entries
from mindsight.journal.sessions import SessionRecord
from mindsight.protocol.inputs import SkipVolume, StartRun


def opened(bus: Bus, name: str) -> Recorder:
    recorder = Recorder(bus, name, time.time)
    recorder.open(SessionRecord(session=name, subject="sub-1", opened_t=1.0))
    return recorder


@pytest.mark.parametrize("page", [1, 2, 3, 7, 8, 1000])
def test_pages_join_without_a_gap_or_a_repetition(bus: Bus, name: str, page: int) -> None:
    log = Log(bus, name, "messages")
    for number in range(7):
        log.append(f"k{number}", b"%d" % number)
    assert [entry.payload for entry in entries(log, page=page)] == [b"%d" % number for number in range(7)]
    assert [entry.seq for entry in entries(log, after=3, page=page)] == [4, 5, 6, 7]
    assert list(entries(log, after=7, page=page)) == []


def test_how_far_each_run_has_come(bus: Bus, name: str) -> None:
    recorder, journal = opened(bus, name), Journal(bus, name)
    assert journal.runs() == []
    for run in (2, 1):
        recorder.start_run(StartRun(t=1.0, run=run, task="view", tr_s=2.0))
    for index in range(3):
        recorder.skip_volume(SkipVolume(t=1.0, run=1, index=index, reason="lost"))
    recorder.end_run(2)
    assert [(s.declared.run, s.next_index, s.ended) for s in journal.runs()] == [(2, 0, True), (1, 3, False)]
    assert journal.run(1).next_index == 3
    assert journal.opened().subject == "sub-1"
    assert [message.id for message in journal.read_messages()] == list(range(1, 8))


def test_an_unknown_session_or_run_is_named(bus: Bus, name: str) -> None:
    opened(bus, name)
    with pytest.raises(NotFound) as run:
        Journal(bus, name).run(3)
    assert run.value.code == "run.unknown"
    for ask in (Journal(bus, name + "x").opened, lambda: Journal(bus, name + "x").run(1)):
        with pytest.raises(NotFound) as session:
            ask()
        assert session.value.code == "session.unknown"
