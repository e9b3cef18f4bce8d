"""Acknowledged objects are on disk, without an identity, until their run has ended, also after a kill."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedMRImageStorage

from mindsight.errors import StorageFull
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.transports import Item, Timeouts
from mindsight.scanner.transports.cstore import CStoreReceiver
from mindsight.scanner.transports.object_spool import SYNC_S, Kept, ObjectSpool, decode, encode
from support.enhanced_files import enhanced, enhanced_bytes, pixels
from support.taking import CLOCK, codes, ends, places, take, until_volumes, volumes


def kept(number: int, series: str = "1.2.3") -> Kept:
    return Kept(read_dicom(enhanced_bytes(number, series)), 1000.0 + number, number)


def receiver(folder: Path | None, **options: Any) -> CStoreReceiver:
    timeouts = Timeouts(idle_s=10.0, late_s=0.5, stall_s=2.0)
    return CStoreReceiver(port=0, clock=CLOCK, timeouts=timeouts, spool=folder, **options)


def send(transport: CStoreReceiver, numbers: range | list[int], series: str = "1.2.3") -> list[int]:
    entity = AE()
    entity.add_requested_context(EnhancedMRImageStorage)
    association = entity.associate(*transport.address, ae_title="MINDSIGHT")
    statuses = [int(association.send_c_store(enhanced(number, series)).Status) for number in numbers]
    association.release()
    return statuses


@pytest.mark.parametrize("name", ["trio_run155/dcm", "siemens_xa30_enhanced", "pyneal/ge_mr750_slices_54"])
def test_real_objects_come_back_as_they_were(name: str, series: Callable[[str], Path], tmp_path: Path) -> None:
    path = next(path for path in sorted(series(name).iterdir()) if path.is_file())
    one = Kept(read_dicom(path.read_bytes()), 12.5, 7)
    (tmp_path / "one").write_bytes(encode(one) * 2)
    with (tmp_path / "one").open("rb") as file:
        assert [decode(file), decode(file), decode(file)] == [one, one, None]


def test_everything_that_a_record_may_hold_comes_back(tmp_path: Path) -> None:
    record = kept(1).record
    frame = replace(record.frames[0], position_mm=None, slope=float("nan"), acquired_s=None)
    one = Kept(replace(record, frames=(frame,), csa_times_ms=(0.1, 2e-300), tr_s=None), 0.0, 1)
    (tmp_path / "one").write_bytes(encode(one))
    with (tmp_path / "one").open("rb") as file:
        assert repr(decode(file)) == repr(one)


def test_what_was_put_waits_in_order_and_goes_when_its_series_is_over(tmp_path: Path) -> None:
    spool = ObjectSpool(tmp_path, time.monotonic)
    for number, series in ((1, "1.2"), (2, "1.3"), (3, "1.2"), (4, "1.3")):
        spool.put(kept(number, series))
    again = ObjectSpool(tmp_path, time.monotonic)
    assert again.last == 4
    assert list(again.waiting()) == [kept(1, "1.2"), kept(2, "1.3"), kept(3, "1.2"), kept(4, "1.3")]
    first = kept(1, "1.2").record.series
    again.release(lambda series: series == first, up_to=2)  # not all of it was dealt with
    assert len(list(tmp_path.iterdir())) == 2
    again.put(kept(5, "1.2"))
    again.release(lambda series: series == first, up_to=4)
    assert [one.number for one in ObjectSpool(tmp_path, time.monotonic).waiting()] == [2, 4, 5]
    again.release(lambda _: True, up_to=5)
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_was_cut_off_is_left_out_and_no_other(tmp_path: Path) -> None:
    spool = ObjectSpool(tmp_path, time.monotonic)
    for number in (1, 2, 3):
        spool.put(kept(number))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for n_bytes in (len(whole) - 1, len(whole) * 2 // 3 + 5, len(whole) * 2 // 3 + 60):
        path.write_bytes(whole[:n_bytes])
        assert [one.number for one in ObjectSpool(tmp_path, time.monotonic).waiting()] == [1, 2]
    damaged = bytearray(whole)
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    assert [one.number for one in ObjectSpool(tmp_path, time.monotonic).waiting()] == [1, 2]
    path.write_bytes(os.urandom(1000))
    assert list(ObjectSpool(tmp_path, time.monotonic).waiting()) == []
    spool = ObjectSpool(tmp_path, time.monotonic)
    spool.release(lambda _: False, up_to=0)
    assert list(tmp_path.iterdir()) == []


def test_after_a_write_that_failed_the_next_object_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = ObjectSpool(tmp_path, time.monotonic)
    spool.put(kept(1))

    real = os.write

    def full(descriptor: int, content: memoryview) -> NoReturn:
        real(descriptor, content[:40])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull):
        spool.put(kept(2))
    monkeypatch.undo()
    spool.put(kept(2))
    assert list(ObjectSpool(tmp_path, time.monotonic).waiting()) == [kept(1), kept(2)]


def test_nothing_of_the_patient_is_on_the_disk(tmp_path: Path) -> None:
    with receiver(tmp_path) as transport:
        assert send(transport, range(1, 4)) == [0, 0, 0]
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert pixels(2).tobytes() in written
    assert b"Doe" not in written
    assert b"1.2.3" not in written
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_what_was_acknowledged_to_a_receiver_that_is_no_more_is_read_by_the_next(tmp_path: Path) -> None:
    with receiver(tmp_path) as transport:  # of which nothing was ever read
        send(transport, [1, 2, 4])
    with receiver(tmp_path) as transport:
        stream = transport.items()
        first = [next(stream), next(stream)]
        send(transport, [3, 5])
        items = [*first, *take_from(transport, stream, 5 - len(volumes(first)))]
    assert places(items) == [(1, k) for k in range(5)]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data.T, pixels(volume.index + 1)[:, ::-1])
    assert codes(items) == []
    assert [end.n_volumes for end in ends(items)] == [5]
    assert list(tmp_path.iterdir()) == []  # the run has ended


def take_from(transport: CStoreReceiver, stream: Any, n: int) -> list[Item]:
    """The next n volumes, and what was held back when it was closed then."""
    items: list[Item] = []
    while len(volumes(items)) < n:
        items.append(next(stream))
    transport.close()
    return [*items, *stream]


def test_a_series_that_is_no_run_is_not_kept(tmp_path: Path) -> None:
    with receiver(tmp_path) as transport:
        send(transport, [1], "9.9")
        send(transport, range(1, 5), "1.2.3")
        items = take(transport, until_volumes(4))
    assert [end.n_volumes for end in ends(items)] == [4]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_the_sender_may_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(tmp_path) as transport:

        def full(*_: object) -> NoReturn:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("mindsight.scanner.transports.object_spool.os.write", full)
        assert send(transport, [1, 2]) == [0xA700, 0xA700]
        monkeypatch.undo()
        assert send(transport, [1, 2]) == [0, 0]
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    assert codes(items) == ["peer.storage"]


def test_more_than_the_bound_is_sent_back(tmp_path: Path) -> None:
    spool = ObjectSpool(tmp_path, time.monotonic, max_bytes=len(encode(kept(1))) + 10)
    spool.put(kept(1))
    with pytest.raises(StorageFull):
        spool.put(kept(2))
    with contextlib.suppress(StopIteration):
        assert next(spool.waiting()).number == 1


def test_slices_that_come_at_once_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync may take 4 ms: fifty of them were a tenth of a TR."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = ObjectSpool(tmp_path, time.monotonic)
    one = kept(1)
    for number in range(1, 51):
        spool.put(replace(one, number=number))
    time.sleep(3 * SYNC_S)
    assert 3 <= len(synced) <= 10  # the first, its folder, and those behind
    del synced[:]
    spool.put(kept(51))
    assert len(synced) == 1  # before it is acknowledged
    assert len(list(ObjectSpool(tmp_path, time.monotonic).waiting())) == 51
