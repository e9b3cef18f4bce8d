from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.client import Console
from mindsight.client.console import RunState
from mindsight.client.http import error_of
from mindsight.errors import (
    BadRequest,
    BadVolume,
    Conflict,
    Diverged,
    NotAllowed,
    NotFound,
    OutOfOrder,
    ServiceUnavailable,
)
from mindsight.protocol import Warned, parse_message
from mindsight.protocol.inputs import TakeVolume, parse_input
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from support.gateway_harness import Running
from support.proxy_harness import Proxy


def volume(index: int, run: int = 1, side: int = 12, seed: int = 0) -> Volume:
    data = np.random.default_rng([seed, run, index]).integers(0, 1000, (side, side, 6), dtype=np.int16)
    return Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), 2.0, run, index, acquired_s=1.5)


@pytest.fixture
def console(running: Running, tmp_path: Path) -> Iterator[Console]:
    with Console(running.url, running.keys["console"], spool_dir=tmp_path, deadline_s=10.0) as console:
        console.open_session(console.enrol())
        console.start_run(1, task="view", tr_s=2.0)
        yield console


def logged(bus: Bus, session: str) -> list[TakeVolume]:
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    return [entry for entry in entries if isinstance(entry, TakeVolume)]


def test_a_session_with_the_consoles_own_key(running: Running, console: Console, bus: Bus, tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(50)
    digest = console.post_image(png)
    console.add_event(1, onset_s=0.0, duration_s=2.0, trial=1, stimulus=digest, label="face")
    console.add_events(1, [{"onset_s": 4.0, "duration_s": 2.0, "trial": 2}])
    for index in range(3):
        ack = console.send(volume(index))
        assert (ack.index, ack.duplicate, ack.next_index) == (index, False, index + 1)
    assert console.mark_missing(1, 3).next_index == console.next_index(1) == 4
    assert console.start_run(1, task="view", tr_s=2.0) == 4, "a repeated declaration returns the next index"
    console.end_run(1)
    console.close_session()
    assert console.waiting() == 0
    payload = BlobStore(running.settings.blobs_dir).get(logged(bus, console.session)[2].digest)
    np.testing.assert_array_equal(decode_volume(payload).data, volume(2).data)
    with pytest.raises(Conflict) as closed:
        console.start_run(2, task="view", tr_s=2.0)
    assert closed.value.code == "session.closed"


def test_a_console_that_comes_back_reads_how_far_each_run_is(console: Console, bus: Bus) -> None:
    console.send(volume(0))
    console.mark_missing(1, 1)
    console.end_run(1)
    console.start_run(2, task="view", tr_s=2.0)
    assert console.runs() == [RunState(1, 2, ended=True), RunState(2, 0, ended=False)]
    console.warn("series.ignored", "a series was left out: " + "x" * 600)
    logged_messages = [parse_message(entry.payload) for entry in Log(bus, console.session, "messages").read()]
    assert [len(message.text) for message in logged_messages if isinstance(message, Warned)] == [500]


def test_a_table_of_events(console: Console, bus: Bus) -> None:
    console.add_events(1, "onset\tduration\ttrial_type\n0\t2\tface\n4\t2\thouse\n")
    keys = [entry.key for entry in Log(bus, console.session, "input").read()]
    assert keys[2:] == ["event-1-1", "event-1-2"]


def test_the_gateways_problems_are_our_errors(running: Running, console: Console, tmp_path: Path) -> None:
    with pytest.raises(OutOfOrder) as order:
        console.send(volume(4))
    assert order.value.details == {"expected_index": 0}
    assert console.waiting() == 1, "it waits for its turn"
    with pytest.raises(NotFound):
        console.open_session("sub-unknown")
    with pytest.raises(BadRequest):
        console.add_event(1, onset_s=-50.0, duration_s=1.0)
    with pytest.raises(BadRequest):
        console.open_session(console.enrol(), fats_s=6.0)
    with Console(running.url, running.keys["viewer"], spool_dir=tmp_path) as viewer, pytest.raises(NotAllowed):
        viewer.enrol()
    with Console(running.url, "ms_wrong", spool_dir=tmp_path) as stranger, pytest.raises(NotAllowed):
        stranger.enrol()
    with Console(running.url, "k", spool_dir=tmp_path) as homeless, pytest.raises(BadRequest, match="open_session"):
        homeless.send(volume(0))


def test_a_volume_that_will_never_be_taken_stops_nothing(console: Console, bus: Bus, tmp_path: Path) -> None:
    console.send(volume(0))
    with pytest.raises(BadVolume) as shape:
        console.send(volume(1, side=10))
    assert shape.value.code == "volume.shape_mismatch"
    with pytest.raises(Diverged):
        console.send(volume(0, seed=5))
    assert console.send(volume(1)).next_index == 2
    assert [entry.index for entry in logged(bus, console.session)] == [0, 1]
    assert len(list((tmp_path / console.session / "refused").iterdir())) == 2


def test_a_gateway_that_is_not_there_is_reported_in_time_and_the_spool_keeps_the_volume(
    running: Running, proxy: Proxy, tmp_path: Path, bus: Bus
) -> None:
    with Console(proxy.url, running.keys["console"], spool_dir=tmp_path, deadline_s=0.5) as console:
        session = console.open_session(console.enrol())
        console.start_run(1, task="view", tr_s=2.0)
        console.send(volume(0))
        proxy.refusing = True
        proxy.cut()
        for index in (1, 2):
            started = time.monotonic()
            with pytest.raises(ServiceUnavailable):
                console.send(volume(index))
            assert time.monotonic() - started < 5.0
        assert console.waiting() == 2
        proxy.refusing = False
        assert console.send(volume(3)).next_index == 4, "what waited went first"
    assert [entry.index for entry in logged(bus, session)] == [0, 1, 2, 3]


def test_another_server_at_the_address_is_not_taken_for_a_gateway() -> None:
    assert isinstance(error_of(502, b"<html>bad gateway</html>"), ServiceUnavailable)
    assert isinstance(error_of(404, b"[]"), ServiceUnavailable)


def test_a_killed_consoles_volumes_are_sent_by_the_next_one(
    running: Running, proxy: Proxy, tmp_path: Path, bus: Bus
) -> None:
    """A real process, killed with SIGKILL while the gateway's answers do not come through."""
    with Console(running.url, running.keys["console"], spool_dir=tmp_path) as first:
        session = first.open_session(first.enrol())
        first.start_run(1, task="view", tr_s=2.0)
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
from pathlib import Path
from mindsight.client import Console
from test_console import volume
console = Console({proxy.url!r}, {running.keys["console"]!r}, session={session!r}, spool_dir=Path({str(tmp_path)!r}))
for index in range(1000):
    console.send(volume(index))
    print(index, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(10)]
    proxy.silent = True  # the next volume gets in, its answer does not get out
    acknowledged += [int(line) for line in iter_for(process.stdout, 0.5)]
    process.kill()
    process.wait(10)
    process.stdout.close()
    proxy.silent = False
    with Console(running.url, running.keys["console"], session=session, spool_dir=tmp_path) as second:
        assert second.resume() == 1
        assert second.waiting() == 0
        next_index = second.next_index(1)
        second.send(volume(next_index))
    indices = [entry.index for entry in logged(bus, session)]
    assert indices == list(range(next_index + 1))
    assert next_index == len(acknowledged) + 1


def iter_for(stream: object, seconds: float) -> list[str]:
    """The lines that come within some seconds."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(stream), daemon=True)  # type: ignore[call-overload]
    reader.start()
    reader.join(seconds)
    return list(lines)


@pytest.mark.parametrize("cuts", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_no_volume_is_lost_or_doubled_across_many_cuts(
    running: Running, proxy: Proxy, cutting: Callable[[int], None], tmp_path: Path, bus: Bus, cuts: int
) -> None:
    with Console(proxy.url, running.keys["console"], spool_dir=tmp_path, deadline_s=30.0) as console:
        session = console.open_session(console.enrol())
        console.start_run(1, task="view", tr_s=2.0)
        proxy.delay_s = 0.002
        cutting(cuts)
        index = 0
        while proxy.cuts < cuts or index < 60:
            assert console.send(volume(index, side=40)).next_index == index + 1
            index += 1
        console.end_run(1)
        console.close_session()
    entries = logged(bus, session)
    assert [entry.index for entry in entries] == list(range(index))
    keys = [entry.key for entry in Log(bus, session, "messages").read()]
    assert keys == ["session", "run-1", *(f"volume-1-{i}" for i in range(index)), "run-1-ended", "session-closed"]
