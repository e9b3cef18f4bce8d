"""AFNI's real-time protocol, spoken by a sender written from the page that describes it, and by peers that do not."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.errors import BadVolume
from mindsight.scanner import read_series
from mindsight.scanner.transports import Expected, Item
from mindsight.scanner.transports.afni import END_OF_RUN, AfniHeader, control_port, parse_header
from mindsight.scanner.transports.afni_receiver import AfniReceiver
from mindsight.volume import Volume
from support.afni_sender import LPS, announce, data_channel, header, image, receiver, send_all, sender
from support.taking import codes, ends, places, take, until_volumes, until_warning, volumes, warnings_in


def test_a_real_run_arrives_identical(trio: list[Volume], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with receiver() as transport:
        announce(transport, b"tcp:localhost:%d\ntouch %s\0" % (transport.data_address[1], str(ran).encode()))
        with data_channel(transport) as channel:
            channel.sendall(header(trio[0]))
            for volume in trio:
                content = image(volume)
                for start in range(0, len(content), 74 * 74 * 2):  # slice by slice, as Dimon
                    channel.sendall(content[start : start + 74 * 74 * 2])
        items = take(transport, lambda items: bool(ends(items)))
    assert warnings_in(items) == []
    assert places(items) == [(1, k) for k in range(12)]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data, trio[volume.index].data)
        np.testing.assert_allclose(volume.affine, trio[0].affine, rtol=1e-7, atol=1e-6)
        assert volume.tr_s == 1.97
        assert volume.arrived_s == pytest.approx(time.time(), abs=60)
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 12)]
    assert not ran.exists()
    assert "Doe" not in repr(items)


@pytest.mark.slow
def test_the_whole_real_run(data: Path) -> None:
    run = list(read_series(data / "trio_run155" / "dcm"))
    with receiver() as transport:
        sender(transport, [header(run[0]), *(image(volume) for volume in run)])
        items = take(transport, lambda items: bool(ends(items)), 60.0)
    assert len(volumes(items)) == 155
    for volume, truth in zip(volumes(items), run, strict=True):
        np.testing.assert_array_equal(volume.data, truth.data)


def test_the_mark_ends_a_run_and_another_begins_on_the_same_connection(trio: list[Volume]) -> None:
    marker = END_OF_RUN + bytes(len(image(trio[0])) - len(END_OF_RUN))
    parts = [header(trio[0]), *map(image, trio[:3]), marker, header(trio[0]), *map(image, trio[3:5])]
    with receiver(run=3) as transport:
        sender(transport, parts)
        items = take(transport, lambda items: len(ends(items)) == 2)
    assert places(items) == [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1)]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(3, 3), (4, 2)]


def small(shape: tuple[int, int, int] = (4, 5, 6), value: int = 0) -> Volume:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) + value
    return Volume(values, np.diag([-2.0, -3.0, 4.0, 1.0]), 2.0, 1, 0)


@pytest.mark.parametrize(("datum", "code"), [("short", "i2"), ("float", "f4"), ("byte", "u1")])
@pytest.mark.parametrize(("order", "mark"), [("LSB_FIRST", "<"), ("MSB_FIRST", ">")])
def test_datums_and_byte_orders(datum: str, code: str, order: str, mark: str) -> None:
    volume = small()
    sent = header(volume, f"BYTEORDER {order}", datum=datum)
    with receiver() as transport:
        sender(transport, [sent, image(volume, mark + code)])
        (got,) = volumes(take(transport, lambda items: bool(ends(items))))
    assert got.data.dtype == np.dtype(code)
    np.testing.assert_array_equal(got.data, volume.data)


@pytest.mark.parametrize(
    ("zorder", "order"),
    [
        ("seq", [0, 1, 2, 3, 4, 5]),
        ("alt", [0, 2, 4, 1, 3, 5]),
        ("explicit 3 1 2 6 5 4", [2, 0, 1, 5, 4, 3]),
    ],
)
def test_slices_come_one_by_one_in_the_stated_order(zorder: str, order: list[int]) -> None:
    run = [small(value=k) for k in range(3)]
    slices = [np.asarray(volume.data[:, :, z], "<i2").tobytes(order="F") for volume in run for z in order]
    with receiver() as transport:
        sender(transport, [header(run[0], f"ZORDER {zorder}", kind="2D+zt"), *slices[:-1]])
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1)]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data, run[volume.index].data)
    assert codes(items) == ["volume.incomplete"]


def test_of_several_channels_the_first_is_read() -> None:
    images = [image(small(value=channel + 10 * k)) for k in range(2) for channel in range(3)]
    with receiver() as transport:
        sender(transport, [header(small(), "NUM_CHAN 3"), *images])
        items = take(transport, lambda items: bool(ends(items)))
    assert [int(volume.data[0, 0, 0]) for volume in volumes(items)] == [0, 10]
    assert codes(items) == ["afni.channels"]


def of_channels(*lines: str, n_volumes: int = 3, **given: object) -> list[Item]:
    """Three channels of which each is weaker, channel by channel and volume by volume."""
    images = [image(small(value=1000 - 300 * channel + k)) for k in range(n_volumes) for channel in range(3)]
    with receiver(expected=Expected(**given)) as transport:
        sender(transport, [header(small(), "NUM_CHAN 3", *lines), *images])
        refused = {"echoes.none", "echoes.no_times"}
        return take(transport, lambda items: bool(ends(items)) or bool(refused.intersection(codes(items))))


def test_the_channel_that_was_chosen_is_read_and_named() -> None:
    items = of_channels("ECHO_TIMES 12 28 44", echo=2)
    assert [int(volume.data[0, 0, 0]) for volume in volumes(items)] == [700, 701, 702]
    assert "chose echo 2 (28 ms); left out echo 1 (12 ms) and echo 3 (44 ms)" in warnings_in(items)[0].text


def test_channels_are_combined_where_their_times_are_stated() -> None:
    items = of_channels("ECHO_TIMES 0.012 0.028 0.044", echo="combine")
    values = [float(volume.data[0, 0, 0]) for volume in volumes(items)]
    times, signal = np.array([12.0, 28.0, 44.0]), np.array([1000.0, 700.0, 400.0])
    rate = -np.polyfit(times, np.log(signal), 1)[0]
    share = times * np.exp(-times * rate) / (times * np.exp(-times * rate)).sum()
    np.testing.assert_allclose(values, [share @ (signal + k) for k in range(3)], rtol=1e-6)
    assert codes(items) == ["series.echoes"]
    items = of_channels(echo="combine")
    assert volumes(items) == []
    assert "echoes.no_times" in codes(items)


def test_a_channel_that_does_not_come_is_refused_in_words() -> None:
    items = of_channels(echo=4)
    assert volumes(items) == []
    assert "expected echo 4, got echo 1 and echo 2 and echo 3" in warnings_in(items)[0].text


def test_what_is_not_the_run_is_read_over() -> None:
    anatomical, run = small((3, 3, 9)), small()
    mark = END_OF_RUN + bytes(len(image(anatomical)) - 30)
    again = END_OF_RUN + bytes(len(image(run)) - 30)
    parts = [
        *(header(anatomical, kind="3D"), image(anatomical), mark),
        *(header(anatomical), image(anatomical), image(anatomical), mark),
        *(header(run), image(run), image(run), image(run), again),
    ]
    with receiver(expected=Expected(shape=run.shape, n_volumes=2)) as transport:
        sender(transport, parts)
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1)]
    assert codes(items)[:2] == ["series.ignored", "series.ignored"]
    assert codes(items)[2:] in ([], ["volume.after_end"])
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 2)]


def parsed(*lines: str, without: str = "OBLIQUE_XFORM") -> AfniHeader:
    text = header(small(), *lines).rstrip(b"\0").decode()
    kept = [line for line in text.split("\n") if line.split()[0] not in without.split()]
    return parse_header("\n".join(kept).encode())


@pytest.mark.parametrize(
    ("lines", "lps"),
    [
        # XYZAXES R-L A-P I-S, XYFOV 8 15 24 over 4 5 6 voxels
        ((), [[2, 0, 0, -110.5], [0, 3, 0, -120.25], [0, 0, 4, -30]]),
        (("XYZFIRST 10 20 30",), [[2, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, -30]]),
        (("XYZFIRST 10L 20P 30S",), [[2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30]]),
        (("XYZFIRST -10R 20A -30",), [[2, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 30]]),
        # the example of README.realtime: 30S, 20A, 50R
        (("XYZAXES S-I A-P L-R", "XYZFIRST 30 20A 50R"), [[0, 0, -4, -50], [0, 3, 0, -20], [-2, 0, 0, 30]]),
        (("XYZAXES RL PA IS", "XYZFIRST 10 20 30"), [[2, 0, 0, -10], [0, -3, 0, 20], [0, 0, 4, -30]]),
        (("XYZOFF 0 0 0",), [[2, 0, 0, -3], [0, 3, 0, -6], [0, 0, 4, -10]]),
        (("XYZOFF 1 2 3",), [[2, 0, 0, -4], [0, 3, 0, -8], [0, 0, 4, -13]]),
        (("XYFOV 8 0", "ZDELTA 7"), [[2, 0, 0, -110.5], [0, 1.6, 0, -120.25], [0, 0, 7, -30]]),
        (("ZGAP 1",), [[2, 0, 0, -110.5], [0, 3, 0, -120.25], [0, 0, 5, -30]]),
        (("XYZFIRST 10 20 30", "ZFIRST 5S"), [[2, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, 5]]),
    ],
)
def test_where_the_volume_lies(lines: tuple[str, ...], lps: list[list[float]]) -> None:
    expected = LPS @ np.array([*lps, [0, 0, 0, 1]])
    np.testing.assert_allclose(parsed(*lines).affine, expected, atol=1e-12)


def test_a_volume_without_a_place_is_centred() -> None:
    affine = parsed(without="OBLIQUE_XFORM XYZFIRST").affine
    np.testing.assert_allclose(affine @ [1.5, 2.0, 2.5, 1.0], [0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("explicit 0 1 0.5 1.5 0.2 0.7", [0, 1, 0.5, 1.5, 0.2, 0.7]),
        ("explicit 0 1000 500 1500 200 700", [0, 1, 0.5, 1.5, 0.2, 0.7]),
        ("explicit 0 1", None),
        ("explicit 0 1 2 3 x 5", None),
        ("alt+q", None),
        ("", None),
        ("seq+z", np.arange(6) / 3),
        ("seq-z", np.arange(5, -1, -1) / 3),
        ("alt+z", np.array([0, 3, 1, 4, 2, 5]) / 3),
        ("alt+z2", np.array([3, 0, 4, 1, 5, 2]) / 3),
        ("alt-z", np.array([5, 2, 4, 1, 3, 0]) / 3),
        ("alt-z2", np.array([2, 5, 1, 4, 0, 3]) / 3),
    ],
)
def test_slice_times(pattern: str, expected: list[float] | None) -> None:
    times_s = parsed(f"TPATTERN {pattern}").slice_times_s
    if expected is None:
        assert times_s is None
    else:
        np.testing.assert_allclose(times_s, expected)


@pytest.mark.parametrize(
    "line",
    [
        *("XYMATRIX 0 4 4", "XYMATRIX 4 4 1000000", "XYMATRIX -4 4 4", "XYMATRIX 4", "XYMATRIX x y z"),
        *("XYMATRIX 1e999 4 4", "XYMATRIX 4.5 4 4", "XYMATRIX 512 512 512"),
        *("TR 0", "TR -1", "TR nan", "TR", "DATUM complex", "DATUM"),
        *("BYTEORDER PDP", "NUM_CHAN 0", "NUM_CHAN 100000000", "ACQUISITION_TYPE 5D", "XYFOV 0 0 0", "XYFOV 1e9 1 1"),
        *("XYZAXES R-L A-P R-L", "XYZAXES R-A L-P I-S", "XYZAXES", "XYZAXES R-L A-P I-S S-I", "XYZFIRST 1 2"),
        *("XYZFIRST inf 0 0", "NOTE " + "x" * 9000),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused(line: str) -> None:
    with pytest.raises(BadVolume) as caught:
        parsed(line)
    assert caught.value.code == "afni.header"
    assert "Doe" not in str(caught.value)


def test_a_header_without_a_transform_that_is_one() -> None:
    for xform in ("1 2 3", "1 0 0 0 0 1 0 0 0 0 1 0 1 1 1 1"):
        with pytest.raises(BadVolume):
            parsed(f"OBLIQUE_XFORM {xform}", without="")


def test_what_the_control_text_holds() -> None:
    assert control_port(b"tcp:localhost:7960") == 7960
    assert control_port(b"tcp:scanner:7960\nrm -rf /") == 7960
    for other in (b"", b"shm:name:1M", b"tcp:localhost", b"tcp:a:b", b"tcp:x:999999", b"\xff" * 99):
        assert control_port(other) is None


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_header_is_one_or_is_refused(data: st.DataObject) -> None:
    text = bytearray(header(small(), "TPATTERN explicit 0 1 0.5 1.5 0.2 0.7").rstrip(b"\0"))
    for _ in range(data.draw(st.integers(0, 6))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"0159-.eE RLAIS+\nXn\xff"))
    if data.draw(st.booleans()):
        del text[data.draw(st.integers(0, len(text))) :]
    with contextlib.suppress(BadVolume):
        sent = parse_header(bytes(text))
        if sent.image_bytes * sent.images_per_volume < 1_000_000:
            sent.volume([bytes(sent.image_bytes)] * sent.images_per_volume)


def good(transport: AfniReceiver) -> None:
    volume = small()
    send_all(transport, [header(volume), image(volume)])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "peer.truncated"),
        (b"\0", "afni.header"),
        (b"x" * 70_000, "peer.too_large"),
        (bytes(128) + b"DICM", "afni.header"),
        (b"ERTI" + bytes(612), "afni.header"),
        (header(small())[:200], "peer.truncated"),
        (header(small()) + bytes(100), "peer.truncated"),
        (header(small(), "XYMATRIX 512 512 120") + bytes(100_000), "peer.truncated"),
    ],
)
def test_hostile_bytes_end_their_own_connection(sent: bytes, code: str) -> None:
    with receiver() as transport:
        tracemalloc.start()
        with data_channel(transport) as channel, contextlib.suppress(ConnectionError):
            channel.sendall(sent)
            channel.shutdown(socket.SHUT_WR)
            while channel.recv(4096):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        good(transport)
        items = take(transport, until_volumes(1))
    assert codes(items) == [code]
    assert len(volumes(items)) == 1
    assert peak < 5e6


def test_a_sender_that_falls_silent_is_let_go() -> None:
    with receiver() as transport, data_channel(transport) as silent:
        silent.sendall(header(small()) + b"123")
        items = take(transport, until_warning("peer.truncated"))
        assert silent.recv(1) == b""
    assert codes(items) == ["peer.truncated"]
    assert ends(items) == []


def test_the_control_port_takes_nothing_but_an_address() -> None:
    with receiver() as transport:
        announce(transport, b"shm:afni:1M\0")
        announce(transport, b"tcp:localhost:1\ntouch x\0")
        announce(transport, b"x" * 5000)
        items = take(transport, lambda items: len(codes(items)) >= 3)
    assert sorted(codes(items)) == ["afni.channel", "afni.channel", "peer.too_large"]


def test_one_sender_at_a_time() -> None:
    with receiver() as transport, data_channel(transport) as first:
        first.sendall(header(small()) + image(small()))
        stream = transport.items()
        assert isinstance(next(stream), Volume)
        with data_channel(transport) as second, contextlib.suppress(ConnectionError):
            assert second.recv(1) == b""
        assert codes([next(stream)]) == ["afni.busy"]
        first.sendall(image(small()))
        assert isinstance(next(stream), Volume)


def test_peers_from_elsewhere_are_sent_away() -> None:
    with receiver(allow=[ipaddress.ip_network("192.168.0.0/16")]) as transport:
        with data_channel(transport) as channel, contextlib.suppress(ConnectionError):
            assert channel.recv(1) == b""
        items = take(transport, until_warning("peer.refused"))
    assert "127.0.0.1" not in repr(items)
