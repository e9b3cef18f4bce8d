"""The C-STORE receiver against pynetdicom's own sender, dcmtk's if it is installed, and peers that mean no good."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import ssl
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom.sop_class import EnhancedMRImageStorage, MRImageStorage, Verification

from mindsight.errors import BadRequest
from mindsight.scanner import read_series
from mindsight.scanner.transports import Expected, Timeouts
from mindsight.scanner.transports.cstore import NOT_AS_IT_SHOULD_BE, OUT_OF_RESOURCES, SUCCESS, CStoreReceiver
from mindsight.volume import Volume
from support.cstore_sender import association, dataset, receiver, store
from support.dcmtk import storescu
from support.taking import (
    CLOCK,
    codes,
    ends,
    places,
    take,
    trio_file,
    until_volumes,
    until_warning,
    volumes,
    warnings_in,
)


def test_objects_in_any_order_are_the_run(data: Path, trio: list[Volume]) -> None:
    with receiver() as transport, association(transport) as peer:
        assert peer.is_established
        assert int(peer.send_c_echo().Status) == SUCCESS
        for number in (2, 1, 4, 3, 3, 5):
            assert store(peer, trio_file(data, number)) == SUCCESS
        items = take(transport, until_volumes(5))
    assert places(items) == [(1, k) for k in range(5)]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data, trio[volume.index].data)
        assert volume.acquired_s == trio[volume.index].acquired_s
        assert volume.arrived_s is not None
    assert codes(items) == ["volume.doubled"]


@pytest.mark.parametrize(
    ("name", "n_files"), [("siemens_xa30_enhanced", 8), ("philips_elition_slices8", 126), ("trio_run155/dcm", 6)]
)
def test_dcmtk_sends_and_nothing_is_lost(name: str, n_files: int, series: Callable[[str], Path]) -> None:
    files = sorted(series(name).iterdir())[:n_files]
    shuffled = [str(files[k]) for k in np.random.default_rng(0).permutation(n_files)]
    truth = [volume for volume, _ in zip(read_series(series(name)), range(n_files), strict=False)]
    with receiver(queue_length=1000) as transport:
        host, port = transport.address
        command = [storescu(), "-aec", "MINDSIGHT", "-R", host, str(port), *shuffled]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        items = take(transport, until_volumes(len(truth)))
    assert warnings_in(items) == []
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, len(truth))]
    for volume, expected in zip(volumes(items), truth, strict=True):
        assert volume.index == expected.index
        np.testing.assert_array_equal(volume.data, expected.data)
        np.testing.assert_array_equal(volume.affine, expected.affine)


def test_a_reader_that_is_behind_pushes_back(data: Path) -> None:
    with receiver(queue_length=2) as transport, association(transport) as peer:
        statuses = [store(peer, trio_file(data, number)) for number in (1, 2, 3)]
        assert statuses == [SUCCESS, SUCCESS, OUT_OF_RESOURCES]
        stream = transport.items()
        assert [next(stream).index, next(stream).index] == [0, 1]  # type: ignore[union-attr]
        assert store(peer, trio_file(data, 3)) == SUCCESS
        assert next(stream).index == 2  # type: ignore[union-attr]


def test_only_those_who_may_and_only_images_of_mr(data: Path) -> None:
    with receiver(calling=["SCANNER"]) as transport:
        with association(transport, calling="STRANGER") as peer:
            assert not peer.is_established
        with association(transport, called="ARCHIVE") as peer:
            assert not peer.is_established
        with association(transport) as peer:
            assert peer.is_established
            accepted = {context.abstract_syntax for context in peer.accepted_contexts}
            assert accepted == {MRImageStorage, EnhancedMRImageStorage, Verification}


def test_an_object_that_does_not_parse_is_reported_and_the_next_is_read(data: Path) -> None:
    with receiver() as transport, association(transport) as peer:
        cut = dataset(trio_file(data, 1))
        cut.PixelData = cut.PixelData[:1000]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert int(peer.send_c_store(cut).Status) == NOT_AS_IT_SHOULD_BE  # success is for what is safe on the disk
        for number in (1, 2):
            store(peer, trio_file(data, number))
        items = take(transport, until_volumes(2))
    assert codes(items) == ["dicom.truncated"]
    assert places(items) == [(1, 0), (1, 1)]


HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(100),
    b"\x01\x00" + struct.pack(">I", 0xFFFFFFFF) + bytes(1000),
    b"\x04\x00" + struct.pack(">I", 0xFFFFFFFF) + bytes(1000),
    b"\x01\x00" + struct.pack(">I", 100) + bytes(50),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    b"tcp:localhost:7960\n/bin/rm\0",
]


def test_hostile_bytes_end_their_own_connection(data: Path) -> None:
    with receiver() as transport:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(socket.create_connection(transport.address, timeout=10)) for _ in HOSTILE]
            for peer, sent in zip(peers, HOSTILE, strict=True):
                peer.sendall(sent)
            with association(transport) as good:  # while they are still there
                for number in (1, 2):
                    assert store(good, trio_file(data, number)) == SUCCESS
            for peer in peers:
                with contextlib.suppress(ConnectionError):
                    while peer.recv(4096):
                        pass
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    assert {"peer.not_dicom", "peer.tls"} <= set(codes(items)) <= {"peer.not_dicom", "peer.tls", "peer.too_large"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.data())
def test_a_mutated_conversation_ends_and_the_next_is_accepted(cuts: st.DataObject, listening: CStoreReceiver) -> None:
    """An association request with bytes changed and the end cut off."""
    sent = bytearray(CONVERSATION)
    for _ in range(cuts.draw(st.integers(1, 6))):
        sent[cuts.draw(st.integers(0, len(sent) - 1))] = cuts.draw(st.integers(0, 255))
    del sent[cuts.draw(st.integers(1, len(sent))) :]
    with socket.create_connection(listening.address, timeout=10) as peer, contextlib.suppress(ConnectionError):
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass


def _conversation() -> bytes:
    """An A-ASSOCIATE-RQ for MR images, as pynetdicom writes it (PS3.8 section 9.3.2)."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = bytes((1, 0, 0, 0)) + item(0x30, str(MRImageStorage).encode()) + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3")
    body = struct.pack(">HH16s16s32x", 1, 0, b"MINDSIGHT".ljust(16), b"SCANNER".ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


CONVERSATION = _conversation()


@pytest.fixture(scope="module")
def listening() -> Iterator[CStoreReceiver]:
    """One receiver for all the mutated conversations; it must be there after them, as soon as the last are let go."""
    with CStoreReceiver(port=0, clock=CLOCK, timeouts=Timeouts(idle_s=5.0, stall_s=0.2)) as transport:
        yield transport
        end_s = time.monotonic() + 5.0
        answered = False
        while not answered and time.monotonic() < end_s:
            with association(transport) as peer:
                answered = peer.is_established and int(peer.send_c_echo().Status) == SUCCESS
            time.sleep(0.0 if answered else 0.1)
        assert answered


def test_an_object_that_is_too_large_ends_its_connection(data: Path) -> None:
    with receiver(max_object_bytes=1_000_000) as transport:
        with association(transport) as peer:
            for number in (1, 2, 3):  # each within the bound, together beyond it
                assert store(peer, trio_file(data, number)) == SUCCESS
            large = dataset(trio_file(data, 4))
            large.PixelData = bytes(5_000_000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert "Status" not in peer.send_c_store(large)
        items = take(transport, until_warning("peer.too_large"))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert "peer.too_large" in codes(items)


def test_tls_with_a_certificate_asked_of_the_peer(data: Path, tmp_path: Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl program to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=localhost"], check=True, capture_output=True, timeout=30)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    server.load_cert_chain(cert, key)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(cert))
    client.load_cert_chain(cert, key)
    with (
        receiver(tls=server) as transport,
        socket.create_connection(transport.address, timeout=10),  # sends nothing, and delays no other peer for long
        association(transport, tls_args=(client, "localhost")) as peer,
    ):
        assert peer.is_established
        for number in (1, 2):
            assert store(peer, trio_file(data, number)) == SUCCESS
        with socket.create_connection(transport.address, timeout=10) as plain:
            plain.sendall(b"\x01\x00" + struct.pack(">I", 200) + bytes(200))
            with contextlib.suppress(ConnectionError):
                assert plain.recv(1) in (b"", b"\x15")  # the end, or TLS's alert
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]


def test_a_run_of_known_length_ends_with_its_last_volume(data: Path) -> None:
    with receiver(expected=Expected(n_volumes=3)) as transport, association(transport) as peer:
        for number in (1, 2, 3):
            store(peer, trio_file(data, number))
        items = take(transport, lambda items: bool(ends(items)))
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 3)]


def test_nothing_of_the_peer_or_the_patient_is_logged(
    data: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    short = Timeouts(idle_s=1.0)
    with receiver(timeouts=short) as transport, association(transport, calling="DOE_SCANNER") as peer:
        patient = dataset(trio_file(data, 1))
        patient.PatientName, patient.PatientID = "Doe^John", "Doe7"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer = io.BytesIO()
            patient.save_as(buffer)
            assert b"Doe^John" in buffer.getvalue()
            peer.send_c_store(patient)
        items = list(transport.items())
    shown = repr(items) + caplog.text + "".join(capfd.readouterr())
    assert "Doe" not in shown
    assert "DOE" not in shown


def test_an_address_that_is_taken_and_a_title_that_is_none() -> None:
    with receiver() as transport, pytest.raises(BadRequest) as caught:
        CStoreReceiver(port=transport.address[1], clock=CLOCK)
    assert caught.value.code == "transport.address"
    with pytest.raises(BadRequest) as caught:
        receiver(ae_title="much too long for an AE title")
    assert caught.value.code == "transport.ae_title"
