"""Events from a program that must not wait: through a run that is not declared yet, an outage, and refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from mindsight.client import Console, EventSender, Session, event_sender
from mindsight.errors import BadRequest
from mindsight.protocol import EventAdded
from support.gateway_harness import Running
from support.proxy_harness import Proxy


@pytest.fixture
def console(running: Running, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setattr(event_sender, "AGAIN_S", 0.05)
    spool = running.settings.data_dir / "spool"
    with Console(proxy.url, running.keys["experimenter"], spool_dir=spool, deadline_s=0.3) as console:
        console.open_session(console.enrol())
        yield console


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline, "not within 30 s"
        time.sleep(0.01)


def trials_of(running: Running, console: Console) -> list[tuple[int, float]]:
    with Session(running.url, running.keys["experimenter"], console.session) as session:
        return [(m.trial or 0, m.onset_s) for m in session.messages() if isinstance(m, EventAdded)]


def test_events_wait_for_their_run_and_keep_their_order(running: Running, console: Console) -> None:
    with EventSender(console) as events:
        for trial in (1, 2, 3):
            began_s = time.monotonic()
            events.add_event(1, trial=trial, onset_s=6.0 * trial, duration_s=3.0)
            assert time.monotonic() - began_s < 0.1
        time.sleep(0.2)
        assert events.waiting() == 3, "no stream has declared the run"
        with Console(running.url, running.keys["experimenter"], session=console.session) as stream:
            stream.start_run(1, task="pictures", tr_s=1.5)
    assert (events.waiting(), events.refused) == (0, [])
    assert trials_of(running, console) == [(1, 6.0), (2, 12.0), (3, 18.0)]


def test_an_outage_costs_the_program_nothing_and_the_session_no_event(
    running: Running, console: Console, proxy: Proxy
) -> None:
    console.start_run(1, task="pictures", tr_s=1.5)
    with EventSender(console) as events:
        proxy.refusing = True
        proxy.cut()
        began_s = time.monotonic()
        events.add_event(1, trial=1, onset_s=6.0, duration_s=3.0)
        assert time.monotonic() - began_s < 0.1
        time.sleep(1.0)  # longer than one request is repeated
        assert events.waiting() == 1
        proxy.refusing = False
    assert trials_of(running, console) == [(1, 6.0)]


def test_what_is_refused_is_named_and_stops_no_other(running: Running, console: Console) -> None:
    console.start_run(1, task="pictures", tr_s=1.5)
    with EventSender(console) as events:
        events.add_event(1, trial=1, onset_s=6.0, duration_s=-3.0)
        events.add_event(1, trial=3, onset_s=18.0, duration_s=3.0, label=object())
        events.add_event(1, trial=2, onset_s=12.0, duration_s=3.0)
    assert [(event["trial"], type(why)) for event, why in events.refused] == [(1, BadRequest), (3, TypeError)]
    assert trials_of(running, console) == [(2, 12.0)]


def test_what_could_not_be_sent_is_returned(console: Console) -> None:
    events = EventSender(console)
    events.add_event(1, trial=1, onset_s=6.0, duration_s=3.0)
    began_s = time.monotonic()
    (left,) = events.close(deadline_s=0.3)
    assert left["trial"] == 1
    assert events.close() == [left]
    assert time.monotonic() - began_s < 5.0
