"""Trigger pulses over TCP beside a stream of volumes: lost, extra, early, late, by another clock, and hostile."""

from __future__ import annotations

import contextlib
import socket
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.errors import BadRequest, BadVolume
from mindsight.scanner.transports import Item, TransportWarning, open_transport
from mindsight.scanner.transports.murfi import MurfiReceiver
from mindsight.scanner.transports.triggers import Pulse, Pulses, Triggered, parse_pulse
from mindsight.volume import Volume
from support.murfi_sender import header, send, voxels
from support.taking import CLOCK, SHORT_TIMEOUTS, codes, take, until_volumes, volumes

TR_S = 2.0
AWAY_S = 37.5  # the stimulus computer's clock against ours
START_S = 1.7e9


def volume(index: int, *, run: int = 1, delay_s: float = 0.6, start_s: float = START_S) -> Volume:
    """Arrives one TR and a delay after its pulse."""
    arrived_s = start_s + (index + 1) * TR_S + delay_s
    return Volume(np.zeros((2, 2, 2), np.int16), np.eye(4), TR_S, run, index, arrived_s=arrived_s)


def pulse(place: float, start_s: float = START_S) -> Pulse:
    return Pulse(start_s + place * TR_S + AWAY_S, start_s + place * TR_S)


def matched(
    pulses: list[Pulse], coming: list[Volume], skip: int = 0
) -> tuple[list[float | None], list[TransportWarning]]:
    """The place of each volume's pulse, as both come in the order of time."""
    queue, reported, places = Pulses(skip), list[TransportWarning](), list[float | None]()
    waiting = sorted(pulses, key=lambda one: one.arrived_s)
    for one in coming:
        while waiting and waiting[0].arrived_s <= (one.arrived_s or 0.0):
            queue.add(waiting.pop(0))
        stamp, sent = queue.match(one)
        reported += sent
        places.append(None if stamp is None else round((stamp - START_S - AWAY_S) / TR_S, 3))
    return places, reported


def test_a_lost_and_an_extra_pulse_shift_nothing() -> None:
    pulses = [pulse(k) for k in range(20) if k != 5] + [pulse(9.4), pulse(12.004)]
    places, reported = matched(pulses, [volume(k) for k in range(20)])
    assert places == [None if k == 5 else k for k in range(20)]
    assert sorted((t.code, t.index) for t in reported if t.code == "trigger.lost") == [("trigger.lost", 5)]
    assert [t.code for t in reported].count("trigger.extra") == 2
    assert not any(t.missing for t in reported)


@settings(max_examples=60, deadline=None)
@given(
    lost=st.sets(st.integers(0, 39), max_size=12),
    extra=st.lists(st.floats(0.3, 39.0).filter(lambda x: 0.25 < x % 1 < 0.75), max_size=6),
    delay_s=st.floats(-0.3, 4.0),
    jitter_s=st.floats(0.0, 0.1),
    seed=st.integers(0, 99),
)
def test_a_volume_has_its_own_pulse_or_none(
    lost: set[int], extra: list[float], delay_s: float, jitter_s: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lost -= {0, 1, 2, 3}  # where it begins
    kept = [pulse(k + rng.uniform(-jitter_s, jitter_s) / TR_S) for k in range(40) if k not in lost]
    places, _ = matched(kept + [pulse(x) for x in extra if x > 3], [volume(k, delay_s=delay_s) for k in range(40)])
    for k, place in enumerate(places):
        assert place is None if k in lost else place == pytest.approx(k, abs=0.06)


def test_runs_pauses_and_other_pulses() -> None:
    """Test pulses and a scout's before; the second run's pulses are none of the first's."""
    before = [pulse(x) for x in (-30.0, -20.3, -20.0, -19.0)]
    second_s = START_S + 30 * TR_S
    pulses = [*before, *(pulse(k) for k in range(10)), *(pulse(k, second_s) for k in range(10))]
    coming = [volume(k) for k in range(10)] + [volume(k, run=2, start_s=second_s) for k in range(10)]
    places, reported = matched(pulses, coming)
    assert places == [*range(10), *range(30, 40)]
    assert reported == []


def test_dummy_scans_are_skipped_or_seen() -> None:
    pulses = [pulse(k) for k in range(-4, 10)]
    assert matched(pulses, [volume(k) for k in range(10)], skip=4) == (list(range(10)), [])
    places, reported = matched(pulses, [volume(k) for k in range(10)])
    assert places == list(range(10))
    assert [t.code for t in reported] == ["trigger.shifted"]


def test_joining_late_and_missing_volumes() -> None:
    pulses = [pulse(k) for k in range(3, 12)]  # no pulse arrived for the run's first three
    coming = [volume(k) for k in (2, 3, 4, 8, 9, 11)]
    places, reported = matched(pulses, coming)
    assert places == [None, 3, 4, 8, 9, 11]
    assert {t.code for t in reported} == {"trigger.shifted", "trigger.lost"}


def test_a_clock_that_is_set_is_followed() -> None:
    early, late = [pulse(k) for k in range(8)], [pulse(k) for k in range(8, 20)]
    places, _ = matched(
        early + [p._replace(stamped_s=p.stamped_s - 100.7) for p in late], [volume(k) for k in range(20)]
    )
    assert places[:8] == list(range(8))
    assert places[8:10] == [None, None]
    assert places[10:] == [round(k - 100.7 / TR_S, 3) for k in range(10, 20)]


def test_no_pulses_are_reported_once() -> None:
    places, reported = matched([], [volume(k) for k in range(5)])
    assert places == [None] * 5
    assert [t.code for t in reported] == ["trigger.lost"]


@pytest.mark.parametrize("line", [b"", b"5", b"\r", b"t\r", b" 1700000000.25 \r"])
def test_lines_that_are_pulses(line: bytes) -> None:
    assert parse_pulse(line, 12.0) == Pulse(1.7e9 + 0.25 if b"." in line else 12.0, 12.0)


@pytest.mark.parametrize("line", [b"hello", b"-1", b"12", b"1e300", b"nan", b"inf", b"9" * 40, b"\xff\xfe", b"1 2"])
def test_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(BadVolume) as caught:
        parse_pulse(line, 12.0)
    assert caught.value.code == "trigger.line"


def around() -> tuple[MurfiReceiver, Triggered]:
    inner = MurfiReceiver(port=0, clock=CLOCK, timeouts=SHORT_TIMEOUTS)
    return inner, Triggered(inner, "127.0.0.1", 0, clock=CLOCK)


def test_over_the_wire_with_one_lost_and_one_extra() -> None:
    """Pulses by one connection, volumes by MURFI's, as they do in time; a third of a second per TR."""
    tr_s = 0.3
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    inner, transport = around()
    sent_s: dict[int, float] = {}
    with transport, socket.create_connection(transport.address, timeout=10) as stimulus:
        begin_s = time.time() + 0.1
        for k in range(11):
            time.sleep(max(0.0, begin_s + k * tr_s - time.time()))
            sent_s[k] = time.time()
            if k != 4:
                stimulus.sendall(b"%.6f\n" % (sent_s[k] + AWAY_S))
            if k:  # the volume that began a TR ago
                one = Volume(np.full((4, 5, 7), k, np.int16), affine, tr_s, 1, k - 1)
                time.sleep(0.02)
                send(inner, header(one, k), voxels(one))
            if k == 6:
                time.sleep(max(0.0, begin_s + 6.5 * tr_s - time.time()))
                stimulus.sendall(b"%.6f\n" % (time.time() + AWAY_S))
        items = take(transport, until_volumes(10))
    assert [one.index for one in volumes(items)] == list(range(10))
    for one in volumes(items):
        if one.index == 4:
            assert one.trigger_s is None
        else:
            assert one.trigger_s == pytest.approx(sent_s[one.index] + AWAY_S, abs=1e-5)
            assert one.arrived_s != one.trigger_s
    assert "trigger.lost" in codes(items)


HOSTILE = [b"GET / HTTP/1.1\r\n\r\n", b"x" * 100_000, b"\0" * 5000, b"\n" * 200_000, b"1700000000.5\n" * 50_000]


@pytest.mark.parametrize("sent", HOSTILE)
def test_hostile_bytes_stop_no_volume(sent: bytes) -> None:
    inner, transport = around()
    with transport:
        with socket.create_connection(transport.address, timeout=10) as peer, contextlib.suppress(OSError):
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
        for k in range(3):
            one = Volume(np.full((4, 5, 7), k, np.int16), np.diag([-2.0, -2.0, 2.0, 1.0]), 2.0, 1, k)
            send(inner, header(one, k + 1), voxels(one))
        items = take(transport, until_volumes(3))
    assert [one.index for one in volumes(items)] == [0, 1, 2]
    if b"\n" * 2 not in sent and not sent.startswith(b"17"):
        assert {"trigger.line", "peer.too_large", "peer.truncated"} & set(codes(items))
    assert len(items) < 20


def test_a_spec_opens_them_and_a_wrong_one_leaves_nothing_open() -> None:
    spec = "murfi://127.0.0.1:0?idle=0.2"
    with open_transport(spec, clock=CLOCK, triggers="tcp://127.0.0.1:0?skip=3") as transport:
        assert isinstance(transport, Triggered)
        none: list[Item] = list(transport.items())
        assert none == []
    for wrong in ("udp://127.0.0.1:1", "tcp://127.0.0.1:0?skip=x", "tcp://127.0.0.1:0?no=1", "tcp:///x"):
        with pytest.raises(BadRequest):
            open_transport(spec, clock=CLOCK, triggers=wrong)
