"""Rejected senders: each reason is reported once, with what to do, and without identifying the sender."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from pynetdicom import AE, Association
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    MRSpectroscopyStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from mindsight.scanner.transports import Timeouts, TransportWarning
from mindsight.scanner.transports.cstore import CStoreReceiver
from mindsight.scanner.transports.turned_away import TurnedAway
from support.enhanced_files import enhanced
from support.taking import CLOCK, codes, take, until_warning, warnings_in

JPEG_2000, JPEG, JPEG_LS, DEFLATED, BIG_ENDIAN, RLE, PLAIN = (
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"),
    *("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1"),
)


def receiver(**options: Any) -> CStoreReceiver:
    return CStoreReceiver(port=0, clock=CLOCK, **{"timeouts": Timeouts(idle_s=10.0, stall_s=1.0), **options})


def call(
    transport: CStoreReceiver,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    called: str = "MINDSIGHT",
    calling: str = "DOE",
) -> None:
    entity = AE(calling)
    for storage, syntaxes in contexts:
        entity.add_requested_context(storage, list(syntaxes))
    association = entity.associate(*transport.address, ae_title=called)
    if association.is_established:
        association.release()


def warned(transport: CStoreReceiver, code: str) -> TransportWarning:
    items = take(transport, until_warning(code), within_s=5.0)
    (warning,) = warnings_in(items)
    assert warning.code == code
    assert "DOE" not in warning.text
    assert "127.0.0.1" not in warning.text
    assert not warning.lost  # it brought nothing that is missing
    return warning


@pytest.mark.parametrize("syntaxes", [(JPEG_2000,), (JPEG, JPEG_LS), (DEFLATED,), (BIG_ENDIAN,)])
@pytest.mark.parametrize("storage", [MRImageStorage, EnhancedMRImageStorage])
def test_compressed_images_only(storage: str, syntaxes: Sequence[str]) -> None:
    with receiver() as transport:
        call(transport, [(storage, syntaxes)])
        assert "uncompressed: Implicit or Explicit VR Little Endian" in warned(transport, "peer.compressed").text


def test_one_kind_of_image_compressed_beside_another_that_is_not() -> None:
    with receiver() as transport:
        call(transport, [(MRImageStorage, [PLAIN]), (EnhancedMRImageStorage, [JPEG_2000])])
        warned(transport, "peer.compressed")


@pytest.mark.parametrize("storage", [CTImageStorage, SecondaryCaptureImageStorage, MRSpectroscopyStorage])
def test_other_kinds_of_objects_only(storage: str) -> None:
    with receiver() as transport:
        call(transport, [(storage, [PLAIN]), (Verification, [PLAIN])])
        assert "MR Image Storage" in warned(transport, "peer.other_class").text


@pytest.mark.parametrize(
    "contexts",
    [
        [(Verification, [PLAIN])],  # a C-ECHO
        [(MRImageStorage, [JPEG_2000, PLAIN]), (CTImageStorage, [PLAIN])],  # all it has, as storescu's default
        [(MRImageStorage, [JPEG_2000]), (MRImageStorage, [PLAIN])],  # a context for each form
        [(EnhancedMRImageStorage, [RLE])],  # which is read
    ],
)
def test_who_can_send_is_not_spoken_of(contexts: list[tuple[str, Sequence[str]]]) -> None:
    with receiver(timeouts=Timeouts(idle_s=0.3, stall_s=1.0)) as transport:
        call(transport, contexts)
        assert list(transport.items()) == []


def test_a_wrong_title_of_ours_and_of_theirs() -> None:
    with receiver() as transport:
        call(transport, [(MRImageStorage, [PLAIN])], called="DOE_ARCHIVE")
        assert "MINDSIGHT" in warned(transport, "peer.called").text
    with receiver(calling=["SCANNER"]) as transport:
        call(transport, [(MRImageStorage, [PLAIN])])
        assert "`calling`" in warned(transport, "peer.calling").text


def test_too_many_at_once() -> None:
    with receiver(max_associations=1) as transport:
        entity = AE()
        entity.add_requested_context(MRImageStorage, [PLAIN])
        first = entity.associate(*transport.address, ae_title="MINDSIGHT")
        assert first.is_established
        call(transport, [(MRImageStorage, [PLAIN])])
        warned(transport, "peer.too_many")
        first.release()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: doe\r\n\r\n", "peer.not_dicom"),
        (b"tcp:localhost:7960\n\0", "peer.not_dicom"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), "peer.tls"),
        (b"\x01\x00" + struct.pack(">I", 60) + b"\xff" * 60, "peer.not_dicom"),
    ],
)
def test_bytes_that_are_no_association(sent: bytes, code: str) -> None:
    with receiver() as transport:
        with socket.create_connection(transport.address, timeout=5) as peer, contextlib.suppress(ConnectionError):
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
        warned(transport, code)


def test_a_reason_is_reported_once_and_then_with_its_count() -> None:
    sent: list[TransportWarning] = []
    turned_away = TurnedAway(sent.append, "MINDSIGHT", [MRImageStorage])
    for _ in range(120):
        turned_away.first_byte(0x47, by_tls=False)
    assert [warning.text.rpartition("(")[2] for warning in sent[1:]] == ["10 times by now)", "100 times by now)"]
    assert codes(sent) == ["peer.not_dicom"] * 3


def test_a_sender_in_rle_is_read() -> None:
    with receiver() as transport:
        entity = AE()
        entity.add_requested_context(EnhancedMRImageStorage, [RLE])
        association = entity.associate(*transport.address, ae_title="MINDSIGHT")
        for number in (1, 2):
            image = enhanced(number)
            image.compress(RLE)
            assert association.send_c_store(image).Status == 0x0000
        association.release()
        items = take(transport, lambda items: len(items) >= 2)
    assert [item.index for item in items[:2]] == [0, 1]  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_receiver_that_closes_while_it_turns_a_peer_away_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine the refused association still runs when the operator is told."""
    told, kill = threading.Event(), Association.kill

    def slow_kill(association: Association) -> None:
        told.wait(5.0)
        time.sleep(0.3)  # the receiver closes now
        kill(association)

    monkeypatch.setattr(Association, "kill", slow_kill)
    with receiver() as transport:
        peer = threading.Thread(target=call, args=(transport, [(MRImageStorage, [PLAIN])]), kwargs={"called": "OTHER"})
        peer.start()
        warned(transport, "peer.called")
        told.set()
    peer.join(10.0)
