"""The stream of Siemens' external image sender: one connection per volume, and connections that are something else."""

from __future__ import annotations

import contextlib
import socket
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.errors import BadVolume
from mindsight.scanner.transports import Expected
from mindsight.scanner.transports.murfi import STRUCT, parse_header
from mindsight.volume import Volume
from support.murfi_sender import NATIVE, header, receiver, send, send_run, voxels
from support.taking import codes, ends, places, take, until_volumes, until_warning, volumes, warnings_in

# The C struct as a compiler lays it out on x86-64: written from the page, with native alignment.


def small(value: int = 0) -> Volume:
    values = np.arange(4 * 5 * 7, dtype=np.int16).reshape(4, 5, 7) + value
    return Volume(values, np.diag([-2.0, -2.0, 2.0, 1.0]), 2.0, 1, 0)


@pytest.mark.parametrize("mosaic", [False, True])
@pytest.mark.parametrize("announced", [False, True])
def test_a_real_run_arrives_identical(mosaic: bool, announced: bool, trio: list[Volume]) -> None:
    with receiver() as transport:
        for number in (1, 0, 2, 4, 3):
            parts = header(trio[number], number + 1, mosaic=mosaic), voxels(trio[number], mosaic=mosaic)
            sizes = struct.pack("<II", *map(len, parts)) if announced else b""
            send(transport, sizes, *parts)
        items = take(transport, until_volumes(5))
    assert warnings_in(items) == []
    assert places(items) == [(1, k) for k in range(5)]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data, trio[volume.index].data)
        np.testing.assert_allclose(volume.affine, trio[0].affine, rtol=1e-6, atol=1e-5)  # float32 on the wire
        assert volume.tr_s == 1.97
        assert volume.arrived_s is not None
    assert "Doe" not in repr(items)


def test_runs_follow_one_another_and_may_count_from_nought() -> None:
    run = [small(k) for k in range(3)]
    with receiver(run=2) as transport:
        send_run(transport, run, [0, 1, 2])
        for number in (0, 1):  # as MURFI's own tools count
            send(transport, header(run[number], number, series=b"other"), voxels(run[number]))
        items = take(transport, until_volumes(5))
    assert places(items) == [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(2, 3), (3, 2)]


@pytest.mark.parametrize("moco", [False, True])
def test_of_two_volumes_per_tr_one_is_taken(moco: bool) -> None:
    with receiver(expected=Expected(motion_corrected=moco)) as transport:
        for number in range(3):
            for corrected in (False, True):
                volume = small(number + 100 * corrected)
                send(transport, header(volume, number + 1, moco=corrected), voxels(volume))
        items = take(transport, until_volumes(3))
    assert [int(volume.data[0, 0, 0]) for volume in volumes(items)] == [k + 100 * moco for k in range(3)]
    assert codes(items) == ["series.ignored"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "murfi.header"),
        (bytes(700), "murfi.header"),
        (b"ERTI", "peer.truncated"),
        (header(small(), 1)[:300], "peer.truncated"),
        (header(small(), 1) + voxels(small())[:-1], "peer.truncated"),
        (struct.pack("<II", 616, 99) + header(small(), 1) + voxels(small()), "murfi.header"),
        (struct.pack("<II", 605, 280), "murfi.header"),
        (header(small(), 1).replace(b"int16_t", b"float\0\0") + voxels(small()), "murfi.header"),
        (header(small(), -1) + voxels(small()), "murfi.header"),
        (NATIVE.pack(*NATIVE.unpack(header(small(), 1))[:13], 512, 512, 512, *NATIVE.unpack(header(small(), 1))[16:]),
         "peer.truncated"),
        (NATIVE.pack(*NATIVE.unpack(header(small(), 1))[:13], 1, 1, 10**9, *NATIVE.unpack(header(small(), 1))[16:]),
         "murfi.header"),
    ],
)  # fmt: skip
def test_hostile_bytes_cost_their_own_connection(sent: bytes, code: str) -> None:
    with receiver() as transport:
        send(transport, sent)
        send_run(transport, [small(k) for k in range(2)], [0, 1])
        items = take(transport, until_volumes(2))
    assert codes(items) == [code]
    assert places(items) == [(1, 0), (1, 1)]


def test_a_sender_that_falls_silent_is_let_go() -> None:
    with receiver() as transport, socket.create_connection(transport.address, timeout=10) as silent:
        silent.sendall(b"ER")
        items = take(transport, until_warning("peer.truncated"))
        assert silent.recv(1) == b""
    assert len(warnings_in(items)) == 1


def test_more_peers_than_are_let_in_are_reported() -> None:
    with receiver() as transport, contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection(transport.address, timeout=10))
        items = take(transport, until_warning("peer.too_many"))
    assert "peer.too_many" in codes(items)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_header_is_one_or_is_refused(data: st.DataObject) -> None:
    content = bytearray(header(small(), 1, mosaic=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadVolume):
        sent = parse_header(bytes(content))
        if sent.data_bytes < 1_000_000:
            with np.errstate(all="ignore"):
                sent.volume(bytes(sent.data_bytes))


def test_the_struct_is_as_the_compiler_lays_it_out() -> None:
    assert STRUCT.size == NATIVE.size == 616
