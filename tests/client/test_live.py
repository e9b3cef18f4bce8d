"""Live volumes on their way to a real gateway: runs, faults and losses are reported, and the stream goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from mindsight.bus import Bus, Log
from mindsight.cli.terminal import Terminal
from mindsight.client import Console
from mindsight.client.live import LiveStream
from mindsight.client.send import Sent
from mindsight.errors import MindsightError
from mindsight.protocol import Warned, parse_message
from mindsight.scanner.transports import FAILED, Item, RunEnded, TransportWarning
from mindsight.volume import Volume
from support.gateway_harness import Running, taken


@pytest.fixture
def session(running: Running) -> str:
    with Console(running.url, running.keys["console"]) as console:
        return console.open_session(console.enrol())


def test_a_warning_after_the_end_of_a_run_names_that_run(
    running: Running, bus: Bus, session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The transport counts runs from 1, the session from wherever it is."""
    volumes = [Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.0, run, 0) for run in (1, 2)]
    items = [
        *(volumes[0], RunEnded(1, 1), volumes[1]),
        TransportWarning("volume.after_end", "run 1: volumes came after its end; dropped", None, 1),
    ]
    with Console(running.url, running.keys["console"], session=session) as console:
        live = LiveStream(
            console,
            first_run=5,
            before=[],
            events=[],
            task="view",
            trail=None,
            clock=time.monotonic,
            report=Terminal(),
        )
        live.send(items)
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    (warned,) = [message for message in messages if isinstance(message, Warned)]
    assert (warned.run, warned.text) == (5, "run 5: volumes came after its end; dropped")
    assert "run 5: volumes came after its end" in capsys.readouterr().err


def sent_live(running: Running, session: str, items: Iterable[Item]) -> Sent:
    with Console(running.url, running.keys["console"], session=session) as console:
        live = LiveStream(
            console,
            first_run=1,
            before=[],
            events=[],
            task="view",
            trail=None,
            clock=time.monotonic,
            report=Terminal(),
        )
        return live.send(items)


def test_a_volume_that_the_service_cannot_take_is_missing_and_the_next_goes_on(
    running: Running, bus: Bus, session: str
) -> None:
    kinds = (np.int16, np.float16, np.int16)  # half precision has no place on the wire
    items = [Volume(np.zeros((8, 8, 8), kind), np.eye(4), 1.0, 1, k) for k, kind in enumerate(kinds)]
    sent = sent_live(running, session, [*items, RunEnded(1, 3)])
    volumes, missing = taken(running, bus, session)
    assert ([volume.index for volume in volumes], missing) == ([0, 2], [1])
    assert (sent.n_volumes, sent.n_missing, sent.is_whole) == (2, 1, False)


def test_what_was_lost_is_counted_and_a_transport_that_died_is_an_error(running: Running, session: str) -> None:
    volume = Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.0, 1, 0)
    unreadable = TransportWarning("object.unreadable", "object 7: it cannot be read", lost=True)
    left_out = TransportWarning("series.ignored", "a series was left out: it had no second volume")
    sent = sent_live(running, session, [volume, unreadable, left_out, RunEnded(1, 1)])
    assert (sent.n_missing, sent.n_lost, sent.is_whole) == (0, 1, False)
    with pytest.raises(MindsightError) as caught:
        sent_live(running, session, [TransportWarning(FAILED, "watching the folder has ended")])
    assert caught.value.code == FAILED


def test_a_run_that_was_planned_otherwise_makes_room_for_the_scanners(running: Running, bus: Bus, session: str) -> None:
    with Console(running.url, running.keys["console"], session=session) as console:
        console.start_run(1, task="view", tr_s=2.0)  # on the dashboard, before the scanner's first volume
        volume = Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.5, 1, 0)
        assert sent_live(running, session, [volume, RunEnded(1, 1)]).is_whole
        states = [(state.run, state.next_index, state.ended) for state in console.runs()]
    assert states == [(1, 0, True), (2, 1, True)]
    codes = [m.code for e in Log(bus, session, "messages").read() if isinstance(m := parse_message(e.payload), Warned)]
    assert codes == ["run.planned"]


def test_a_run_that_is_ended_on_the_dashboard_takes_no_more_and_the_next_one_does(
    running: Running, session: str
) -> None:
    def items() -> Iterator[Item]:
        for run, index in ((1, 0), (1, 1), (2, 0)):
            yield Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.5, run, index)
            if (run, index) == (1, 0):
                console.end_run(1)
        yield RunEnded(2, 1)

    with Console(running.url, running.keys["console"], session=session) as console:
        assert sent_live(running, session, items()).n_volumes == 2
        assert [(state.run, state.next_index, state.ended) for state in console.runs()] == [(1, 1, True), (2, 1, True)]
