"""Every pair of state and event, driven through real logs and compared with the tables."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import get_args

import pytest

from mindsight.bus import Bus
from mindsight.errors import Diverged, MindsightError
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import SessionRecord
from mindsight.journal.states import (
    RUN,
    SESSION,
    Event,
    Refusal,
    RunEvent,
    RunState,
    SessionEvent,
    SessionState,
    refusals,
)
from mindsight.protocol.inputs import AddEvent, Instruct, SetLimits, SetRoi, SkipVolume, StartRun, TakeVolume

RUN_STATES = [(session, run) for session in SessionState for run in RunState if (session, run) in RUN]


class Driver:
    """One session on a real bus, brought into a state by the events that lead there."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.journal = Journal(bus, name)
        self.recorder = Recorder(bus, name, time.time)
        self.record = SessionRecord(session=name, subject="sub-1", opened_t=1.0)
        self.next_index = 0
        self.n_given = 0

    def reach(self, session: SessionState, run: RunState = RunState.UNDECLARED) -> None:
        states = list(SessionState)
        if session is not SessionState.ABSENT:
            self.apply("open")
        if run is not RunState.UNDECLARED:
            self.apply("start_run")
            self.apply("take_volume")
        if run is RunState.ENDED:
            self.apply("end_run")
        for event, reached in (("close", SessionState.CLOSED), ("archive", SessionState.ARCHIVED)):
            if states.index(session) >= states.index(reached):
                self.apply(event)  # type: ignore[arg-type]

    def apply(self, event: Event) -> None:
        """The event, with content that is not in the log yet where it has content of its own."""
        self.n_given += 1
        events: dict[Event, Callable[[], object]] = {
            "open": lambda: self.recorder.open(self.record),
            "change_limits": lambda: self.recorder.set_limits(SetLimits(t=1.0, change=f"c{self.n_given}")),
            "set_bundle": lambda: self.recorder.set_bundle(f"b{self.n_given}", "0" * 64, "text"),
            "set_roi": lambda: self.recorder.set_roi(SetRoi(t=1.0, name=f"r{self.n_given}", mask="0" * 64), 5),
            "instruct": lambda: self.recorder.instruct(
                Instruct(t=1.0, change=f"i{self.n_given}", instruction="mark", text="text")
            ),
            "warn": lambda: self.recorder.warn("x.y", f"text {self.n_given}", "warning", None, None),
            "close": self.recorder.close,
            "archive": lambda: self.recorder.archive("archive/x", 3),
            "start_run": lambda: self.recorder.start_run(StartRun(t=1.0, run=1, task="view", tr_s=2.0)),
            "add_event": lambda: self.recorder.add_events(
                1, [AddEvent(t=1.0, run=1, trial=self.n_given, onset_s=0.0, duration_s=1.0)]
            ),
            "take_volume": lambda: self._volume(take=True),
            "skip_volume": lambda: self._volume(take=False),
            "end_run": lambda: self.recorder.end_run(1),
        }
        events[event]()

    def _volume(self, *, take: bool) -> None:
        index = self.next_index
        if take:
            volume = TakeVolume(t=1.0, run=1, index=index, digest="0" * 64, shape=(4, 4, 4), nbytes=9, acked_t=1.0)
            appended = self.recorder.take_volume(volume, 1.0)
        else:
            appended = self.recorder.skip_volume(SkipVolume(t=1.0, run=1, index=index, reason="lost"))
        self.next_index = appended.next_index

    def outcome(self, event: Event) -> Refusal | None:
        try:
            self.apply(event)
        except MindsightError as error:
            return Refusal(error.code)
        return None


def test_the_tables_hold_every_state_and_every_event() -> None:
    assert set(SESSION) == set(SessionState)
    assert all(set(row) == set(get_args(SessionEvent)) for row in SESSION.values())
    assert set(RUN) == {
        (SessionState.ABSENT, RunState.UNDECLARED),
        *itertools.product([SessionState.OPEN, SessionState.CLOSED, SessionState.ARCHIVED], RunState),
    }
    assert all(set(row) == set(get_args(RunEvent)) for row in RUN.values())
    assert refusals("take_volume") == set(Refusal) - {Refusal.NOT_CLOSED}
    assert refusals("open") == set()


@pytest.mark.parametrize("event", get_args(SessionEvent))
@pytest.mark.parametrize("state", list(SessionState))
def test_a_session_follows_its_table(bus: Bus, name: str, state: SessionState, event: SessionEvent) -> None:
    driver = Driver(bus, name)
    driver.reach(state)
    assert driver.journal.state() is state
    n_entries = _n_entries(driver)
    expected = SESSION[state][event]
    assert driver.outcome(event) == (expected if isinstance(expected, Refusal) else None)
    assert driver.journal.state() is (state if isinstance(expected, Refusal) else expected)
    if isinstance(expected, Refusal):
        assert _n_entries(driver) == n_entries, "what is refused leaves no trace"


@pytest.mark.parametrize("event", get_args(RunEvent))
@pytest.mark.parametrize(("session", "run"), RUN_STATES)
def test_a_run_follows_its_table(bus: Bus, name: str, session: SessionState, run: RunState, event: RunEvent) -> None:
    driver = Driver(bus, name)
    driver.reach(session, run)
    assert (driver.journal.state(), driver.journal.run_state(1)) == (session, run)
    n_entries = _n_entries(driver)
    expected = RUN[session, run][event]
    assert driver.outcome(event) == (expected if isinstance(expected, Refusal) else None)
    assert driver.journal.state() is session
    assert driver.journal.run_state(1) is (run if isinstance(expected, Refusal) else expected)
    if isinstance(expected, Refusal):
        assert _n_entries(driver) == n_entries, "what is refused leaves no trace"


@pytest.mark.parametrize("session", [SessionState.OPEN, SessionState.CLOSED, SessionState.ARCHIVED])
@pytest.mark.parametrize("run", [RunState.RUNNING, RunState.ENDED])
def test_what_is_in_the_log_may_come_again_in_every_state_and_never_with_other_content(
    bus: Bus, name: str, session: SessionState, run: RunState
) -> None:
    driver = Driver(bus, name)
    driver.reach(session, run)
    n_entries = _n_entries(driver)
    volume = TakeVolume(t=2.0, run=1, index=0, digest="0" * 64, shape=(4, 4, 4), nbytes=9, acked_t=2.0)
    assert driver.recorder.take_volume(volume, 5.0).duplicate
    with pytest.raises(Diverged):
        driver.recorder.take_volume(volume.model_copy(update={"digest": "1" * 64}), 5.0)
    with pytest.raises(Diverged):
        driver.recorder.start_run(StartRun(t=1.0, run=1, task="rest", tr_s=2.0))
    assert _n_entries(driver) == n_entries


def _n_entries(driver: Driver) -> tuple[int, int]:
    return driver.journal.inputs.last_seq(), driver.journal.messages.last_seq()
