"""Whatever a parser raises, in any transport: the object is named and left out, and nothing else is lost."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedMRImageStorage

from mindsight.errors import BadVolume
from mindsight.scanner.assembly import assemble, file_contents
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.guard import each_guarded, guarded
from mindsight.scanner.recording import keep
from mindsight.scanner.transports import FAILED, Expected, Timeouts, TransportWarning, cstore, murfi, tcp
from mindsight.scanner.transports.afni import AfniHeader
from mindsight.scanner.transports.afni_receiver import AfniReceiver
from mindsight.scanner.transports.cstore import CStoreReceiver
from mindsight.scanner.transports.folder import FolderReader
from mindsight.scanner.transports.murfi import MurfiReceiver
from mindsight.scanner.transports.watch import FolderWatch
from mindsight.volume import Volume
from support.enhanced_files import enhanced, enhanced_bytes, pixels
from support.taking import CLOCK, codes, places, take, until_volumes, volumes, warnings_in

QUICK = Timeouts(idle_s=20.0, late_s=0.3, whole_s=0.1, stall_s=2.0)
FOREIGN = (NameError("Doe^John"), struct.error("Doe"), MemoryError(), RecursionError(), KeyError("Doe"), OSError("Doe"))


def failing(real: Callable[..., Any], error: Exception, which: int) -> Callable[..., Any]:
    """The same, which raises at the call of this number, from 1, and always on what it raised at."""
    calls: list[Any] = []

    def call(*args: Any, **options: Any) -> Any:
        if args[0] not in calls:
            calls.append(args[0])
        if calls.index(args[0]) + 1 == which:
            raise error
        return real(*args, **options)

    return call


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_what_is_raised_becomes_ours_and_carries_nothing_along(error: Exception) -> None:
    def parse() -> NoReturn:
        raise error

    with pytest.raises(BadVolume) as caught:
        guarded(parse)
    assert caught.value.code == "object.unreadable"
    assert "Doe" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_what_came_before_an_error_is_kept() -> None:
    def three() -> Any:
        yield 1
        yield 2
        raise NameError

    found = each_guarded(three())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(BadVolume):
        next(found)


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["read_dicom", "kind_of", "record_volume", "is_enhanced"])
def test_one_object_of_a_run_fails_anywhere_in_assembling(
    place: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, place, failing(getattr(assemble, place), error, 4))
    assembler = Assembler(Expected(), late_s=1.0)
    items = [
        item
        for k in range(1, 8)
        for item in (*assembler.add(Arrival(enhanced_bytes(k), 0.0, k), float(k)), *assembler.tick(float(k)))
    ]
    items += assembler.finish()
    assert places(items) == [(1, k) for k in (0, 1, 2, 4, 5, 6)]
    assert codes(items) == ["object.unreadable", "volume.missing"]
    first = warnings_in(items)[0]
    assert first.text.startswith("object 4: ")
    assert first.lost
    assert "Doe" not in repr(items)


def test_volumes_of_an_object_that_fails_midway_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_of_three(record: object, tr_s: float, run: int, first: int, on_bad: object) -> Any:
        for index in range(2):
            yield Volume(np.zeros((4, 4, 4), np.int16), np.eye(4), tr_s, run, index)
        raise NameError

    monkeypatch.setattr(assemble, "enhanced_volumes", two_of_three)
    monkeypatch.setattr(assemble, "enhanced_positions", lambda _: {1: [0], 2: [1], 3: [2]})
    assembler = Assembler(Expected(), late_s=1.0)
    items = [*assembler.add(Arrival(enhanced_bytes(1), 0.0, 1), 0.0), *assembler.finish()]
    assert places(items) == [(1, 0), (1, 1)]
    assert codes(items) == ["object.unreadable"]


@pytest.mark.parametrize("error", FOREIGN[:3], ids=lambda error: type(error).__name__)
def test_one_file_of_a_watched_folder_fails(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of seven volumes were gone after a file whose private header made the parser raise NameError."""
    monkeypatch.setattr(file_contents, "read_dicom", failing(file_contents.read_dicom, error, 4))
    with FolderWatch(tmp_path, clock=CLOCK, timeouts=QUICK, mode="polling", existing=True) as transport:
        for number in range(1, 8):
            (tmp_path / f"Doe_{number}.dcm").write_bytes(enhanced_bytes(number))
        items = take(transport, until_volumes(6))
    assert places(items) == [(1, k) for k in (0, 1, 2, 4, 5, 6)]
    assert sorted(codes(items)) == ["object.unreadable", "volume.missing"]
    (warned,) = [warning for warning in warnings_in(items) if warning.code == "object.unreadable"]
    assert "file " in warned.text
    assert warned.lost
    assert "Doe" not in repr(items)


def test_a_nifti_whose_voxels_fail_midway_keeps_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = file_contents.nifti_volumes

    def two(*args: Any) -> Any:
        volumes = real(*args)
        yield next(volumes)
        yield next(volumes)
        raise MemoryError

    monkeypatch.setattr(file_contents, "nifti_volumes", two)
    image = nib.Nifti1Image(np.zeros((5, 6, 7, 4), np.int16), np.eye(4))
    image.header["pixdim"][4] = 2.0
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "Doe.nii")
    reader = FolderReader(tmp_path, QUICK, settle_s=0.0, existing=True)
    assert list(reader.scan(0.0)) == []
    *come, warned = reader.read(0.0, 0.0)
    assert len(come) == 2
    assert isinstance(warned, TransportWarning)
    assert (warned.code, warned.lost) == ("object.unreadable", True)
    assert "Doe" not in warned.text


def test_notes_beside_the_images_are_no_loss(tmp_path: Path) -> None:
    reader = FolderReader(tmp_path, QUICK, settle_s=0.0, existing=True)
    (tmp_path / "Doe.txt").write_text("notes")
    (tmp_path / "Doe.dcm").write_bytes(b"")
    assert list(reader.scan(0.0)) == []
    assert list(reader.read(0.0, 0.0)) == []
    warned = [one for one in reader.read(1.0, 0.0) if isinstance(one, TransportWarning)]
    assert [(one.code, one.lost) for one in warned] == [("dicom.not_dicom", True), ("dicom.not_dicom", False)]


def test_a_thread_that_dies_is_reported_and_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(FolderReader, "scan", scan)
    with FolderWatch(tmp_path, clock=CLOCK, timeouts=QUICK, mode="polling") as transport:
        items = list(transport.items())
    assert codes(items) == [FAILED]
    assert "start the same command again" in warnings_in(items)[0].text


@pytest.mark.parametrize("where", ["read_dicom", "record_volume"])
def test_one_object_of_a_store_fails(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = cstore if where == "read_dicom" else assemble
    monkeypatch.setattr(at, where, failing(getattr(at, where), NameError("Doe"), 2))
    with CStoreReceiver(port=0, clock=CLOCK, timeouts=QUICK) as transport:
        ae = AE("SCANNER")
        ae.add_requested_context(EnhancedMRImageStorage)
        peer = ae.associate(*transport.address, ae_title="MINDSIGHT")
        for number in (1, 2, 3, 4):
            status = peer.send_c_store(enhanced(number)).Status
            assert status == (0xB007 if (where, number) == ("read_dicom", 2) else 0x0000)
        peer.release()
        items = take(transport, until_volumes(3))
    assert places(items) == [(1, 0), (1, 2), (1, 3)]
    assert sorted(codes(items)) == ["object.unreadable", "volume.missing"]
    assert np.array_equal(volumes(items)[1].data.T, pixels(3)[:, ::-1])


def test_a_store_that_fails_itself_does_not_say_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr("pynetdicom.evt.Event.encoded_dataset", broken)
    with CStoreReceiver(port=0, clock=CLOCK, timeouts=QUICK) as transport:
        ae = AE("SCANNER")
        ae.add_requested_context(EnhancedMRImageStorage)
        peer = ae.associate(*transport.address, ae_title="MINDSIGHT")
        assert peer.send_c_store(enhanced(1)).Status == 0xB007
        peer.release()
        items = take(transport, lambda items: bool(items))
    assert codes(items) == ["object.unreadable"]


MURFI = struct.Struct("5s i 64s 64s 16s 256s 16s ? ? 4d 3i 16f 4i ? 5s 6d")


def send_murfi(address: tuple[str, int], number: int) -> None:
    header = MURFI.pack(
        *(b"ERTI", 4, b"1.2.3", b"", b"", b"", b"int16_t", True, False, 1.0, 1.0, 1.0, 0.0, 4, 4, 4),
        *(*np.eye(4).ravel(), 1500, 30, number, 9, False, b"XYZT", *(0.0,) * 6),
    )
    with socket.create_connection(address, timeout=10) as peer, contextlib.suppress(OSError):
        peer.sendall(header + bytes(2 * 64))
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(100):
            pass


@pytest.mark.parametrize("error", FOREIGN[:3], ids=lambda error: type(error).__name__)
def test_one_volume_of_the_image_sender_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(murfi, "parse_header", failing(murfi.parse_header, error, 3))
    with MurfiReceiver(port=0, clock=CLOCK, timeouts=QUICK) as transport:
        for number in range(1, 6):
            send_murfi(transport.address, number)
        items = take(transport, until_volumes(4))
    assert places(items) == [(1, 0), (1, 1), (1, 3), (1, 4)]
    assert sorted(codes(items)) == ["object.unreadable", "volume.missing"]


def test_one_volume_of_afni_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "ACQUISITION_TYPE 3D+t\nTR 1.5\nXYMATRIX 4 4 4\nXYFOV 12 12 12\nXYZAXES R-L A-P I-S\nDATUM short\nNUMVOL 9\n"
    )
    real, calls = AfniHeader.volume, iter(range(5))

    def second_fails(self: AfniHeader, images: list[bytes]) -> Volume:
        if next(calls) == 1:
            raise NameError("Doe")
        return real(self, images)

    monkeypatch.setattr(AfniHeader, "volume", second_fails)
    with (
        AfniReceiver(port=0, data_port=0, clock=CLOCK, timeouts=QUICK) as transport,
        socket.create_connection(transport.data_address, timeout=10) as peer,
    ):
        peer.sendall(lines.encode() + b"\0" + bytes(2 * 64 * 4))
        items = take(transport, until_volumes(3))
    assert places(items) == [(1, 0), (1, 2), (1, 3)]
    assert sorted(codes(items)) == ["object.unreadable", "volume.missing"]


def test_a_peer_that_no_thread_can_be_started_for_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread(tcp.threading.Thread):
        def start(self) -> None:
            if self.name == "peer":
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(tcp.threading, "Thread", NoThread)
    with MurfiReceiver(port=0, clock=CLOCK, timeouts=QUICK) as transport:
        for number in range(1, tcp.MAX_CONNECTIONS + 3):
            send_murfi(transport.address, number)
        monkeypatch.undo()
        send_murfi(transport.address, 1)
        send_murfi(transport.address, 2)
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    assert set(codes(items)) == {"peer.failed"}


def test_a_recording_that_fails_ends_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Volume) -> NoReturn:
        raise NameError("Doe")

    monkeypatch.setattr("mindsight.scanner.recording.encode_volume", broken)
    come = [Volume(np.zeros((4, 4, 4), np.int16), np.eye(4), 1.0, 1, k) for k in range(3)]
    items = list(keep(come, tmp_path))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == ["recording.failed"]
    assert warnings_in(items)[0].lost
    half = Volume(np.zeros((4, 4, 4), np.float16), np.eye(4), 1.0, 1, 0)  # which no payload holds
    monkeypatch.undo()
    assert codes(list(keep([half], tmp_path))) == ["recording.failed"]
