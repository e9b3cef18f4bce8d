"""A folder that fills while it is watched: real files, late, doubled, cut off, half-written, renamed, mixed."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.scanner import read_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.file_contents import read_unit
from mindsight.scanner.transports import Expected, Timeouts, TransportWarning, open_transport
from mindsight.scanner.transports.folder import FolderReader
from mindsight.scanner.transports.watch import FolderWatch, Mode, others_write
from mindsight.volume import Volume
from support.taking import (
    CLOCK,
    SHORT_TIMEOUTS,
    codes,
    ends,
    places,
    take,
    trio_file,
    until_volumes,
    volumes,
    warnings_in,
)

MODES: list[Mode] = ["events", "polling"]


def watch(folder: Path, mode: Mode = "events", **options: object) -> FolderWatch:
    return FolderWatch(folder, mode=mode, clock=CLOCK, timeouts=SHORT_TIMEOUTS, **options)  # type: ignore[arg-type]


def copy(data: Path, folder: Path, number: int, name: str | None = None) -> None:
    shutil.copy(trio_file(data, number), folder / (name or f"Doe_{number}.dcm"))


@pytest.mark.parametrize("mode", MODES)
def test_a_run_with_all_that_goes_wrong(mode: Mode, data: Path, trio: list[Volume], tmp_path: Path) -> None:
    """12 volumes: one early, one doubled, one cut off first, one written in pieces, one by rename, one lost."""
    deep = tmp_path / "20260101.Doe^John.123"

    def scanner() -> None:
        deep.mkdir()
        for number in range(1, 13):
            whole = trio_file(data, number).read_bytes()
            if number == 4:  # comes after 5
                continue
            if number == 7:  # lost
                continue
            if number == 6:  # cut off first
                (deep / "Doe_6.dcm").write_bytes(whole[:100_000])
                time.sleep(0.2)
                (deep / "Doe_6.dcm").write_bytes(whole)
            elif number == 8:  # as long as it will be, and then filled
                with (deep / "Doe_8.dcm").open("r+b" if (deep / "Doe_8.dcm").exists() else "w+b") as file:
                    file.truncate(len(whole))
                    for start in range(0, len(whole), 100_000):
                        file.seek(start)
                        file.write(whole[start : start + 100_000])
                        file.flush()
                        time.sleep(0.02)
            elif number == 9:
                (deep / "Doe_9.dcm.tmp").write_bytes(whole)
                (deep / "Doe_9.dcm.tmp").rename(deep / "Doe_9.dcm")
            else:
                copy(data, deep, number)
            if number == 5:
                copy(data, deep, 4)
                copy(data, deep, 5, "Doe_5_again.dcm")
            (deep / "notes.txt").write_text("of Doe")
            time.sleep(0.03)

    with watch(tmp_path, mode) as transport:
        assert transport.polls is (mode == "polling")
        thread = threading.Thread(target=scanner)
        thread.start()
        items = take(transport, lambda items: len(volumes(items)) >= 11 and "dicom.not_dicom" in codes(items))
        thread.join()
    assert places(items) == [(1, k) for k in range(12) if k != 6]
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data, trio[volume.index].data)
        np.testing.assert_array_equal(volume.affine, trio[volume.index].affine)
        assert volume.acquired_s == trio[volume.index].acquired_s
        assert volume.arrived_s == pytest.approx(time.time(), abs=60)
    assert [(t.index, t.run) for t in warnings_in(items) if t.missing] == [(6, 1)]
    assert sorted(codes(items)) == ["dicom.not_dicom", "volume.doubled", "volume.missing"]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 12)]
    assert "Doe" not in repr(warnings_in(items))


@pytest.mark.slow
def test_two_series_at_once_and_a_restart(data: Path, tmp_path: Path) -> None:
    xa30 = sorted((data / "siemens_xa30_enhanced").iterdir())
    with watch(tmp_path, expected=Expected(tr_s=1.97)) as transport:
        for number in (1, 2, 3):
            copy(data, tmp_path, number)
            shutil.copy(xa30[number], tmp_path / f"x{number}.dcm")
        for number in (1, 2):
            content = trio_file(data, number).read_bytes()
            uid = b"1.3.6.1.4.1.9590.100.1.2.414631391012364401638709825474079833244"
            assert uid in content
            (tmp_path / f"again_{number}.dcm").write_bytes(content.replace(uid, uid[:-1] + b"9"))
        items = take(transport, until_volumes(5))
    assert places(items) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    assert codes(items) == ["series.ignored"]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 3), (2, 2)]


def test_a_file_given_up_is_read_when_it_changes(data: Path, tmp_path: Path) -> None:
    whole = trio_file(data, 2).read_bytes()
    reader = FolderReader(tmp_path, Timeouts(whole_s=5.0), settle_s=0.1, existing=False)
    (tmp_path / "a.dcm").write_bytes(whole[:-2])
    found: list[Arrival | TransportWarning] = []
    for tenth in range(70):
        now_s = tenth / 10
        found += [*reader.scan(now_s), *reader.read(now_s, 0.0)]
    assert [isinstance(one, TransportWarning) and one.code for one in found] == ["dicom.truncated"]
    (tmp_path / "a.dcm").write_bytes(whole)
    found = [*reader.scan(8.0), *reader.read(8.0, 0.0), *reader.read(8.2, 77.0)]
    assert [isinstance(one, Arrival) and one.arrived_s for one in found] == [77.0]
    assert [*reader.scan(9.0), *reader.read(9.5, 0.0)] == []


def test_a_file_with_its_length_before_its_content_is_given_time(data: Path, tmp_path: Path) -> None:
    """It parses: zeros are voxels too. Its writer halts for longer than a file that is written rests."""
    whole = trio_file(data, 1).read_bytes()
    reader = FolderReader(tmp_path, Timeouts(), settle_s=0.1, existing=False)
    found: list[Arrival | TransportWarning] = []
    with (tmp_path / "a.dcm").open("wb") as file:
        file.truncate(len(whole))
        file.write(whole[:60_000])
        file.flush()
        for tenth in range(8):
            found += [*reader.scan(tenth / 10), *reader.read(tenth / 10, 0.0)]
        assert found == []
        file.write(whole[60_000:])
    found = [*reader.scan(0.8), *reader.read(0.8, 0.0), *reader.read(1.0, 0.0)]
    (arrival,) = found
    assert isinstance(arrival, Arrival)
    assert arrival.content == next(read_unit(str(tmp_path / "a.dcm"), None))


def test_a_file_that_keeps_changing_is_not_read(data: Path, tmp_path: Path) -> None:
    """A file filled after it was made at its full length parses before it is whole."""
    whole = trio_file(data, 1).read_bytes()
    reader = FolderReader(tmp_path, Timeouts(), settle_s=0.1, existing=False)
    hollow = bytearray(whole)
    hollow[-100_000:] = bytes(100_000)
    found: list[Arrival | TransportWarning] = []
    for tenth in range(5):
        (tmp_path / "a.dcm").write_bytes(hollow + bytes(2 * tenth))  # every look finds it another
        now_s = tenth / 20
        found += [*reader.scan(now_s), *reader.read(now_s, 0.0)]
    assert found == []


@pytest.mark.parametrize("existing", [False, True])
def test_files_that_are_there_at_the_start(existing: bool, data: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        copy(data, tmp_path, number)
    with watch(tmp_path, "polling", existing=existing) as transport:
        for number in (3, 4):
            copy(data, tmp_path, number)
        items = take(transport, until_volumes(4 if existing else 2))
    assert places(items) == [(1, k) for k in (range(4) if existing else (2, 3))]
    assert [t.index for t in warnings_in(items) if t.missing] == ([] if existing else [0, 1])


def test_of_the_files_that_are_there_only_those_that_came_since_then(data: Path, tmp_path: Path) -> None:
    """As a process that was killed and started again asks for them."""
    for number in (1, 2, 3, 4):
        copy(data, tmp_path, number)
        os.utime(tmp_path / f"Doe_{number}.dcm", ns=(0, number * 10**18))
    spec = f"watch:{tmp_path}?mode=polling&late=1&since={2 * 10**18}"
    with open_transport(spec, clock=CLOCK) as transport:
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 2), (1, 3)]
    with pytest.raises(BadRequest):
        open_transport(f"watch:{tmp_path}?since=yesterday", clock=CLOCK)


def test_an_idle_folder_ends_the_stream(tmp_path: Path) -> None:
    transport = FolderWatch(tmp_path, clock=CLOCK, timeouts=Timeouts(idle_s=0.2), mode="polling")
    with transport:
        assert list(transport.items()) == []


def test_a_folder_that_goes_away_is_reported_and_waited_for(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Doe"
    folder.mkdir()
    with watch(folder, "polling") as transport:
        folder.rmdir()
        time.sleep(0.3)
        folder.mkdir()
        for number in (1, 2):
            copy(data, folder, number)
        items = take(transport, until_volumes(2))
    assert codes(items) == ["watch.folder"]
    assert places(items) == [(1, 0), (1, 1)]


def test_links_pipes_and_hidden_files_are_ignored(data: Path, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    folder.mkdir()
    copy(data, outside, 1)
    reader = FolderReader(folder, Timeouts(whole_s=0.1), settle_s=0.0, existing=False)
    (folder / "link.dcm").symlink_to(outside / "Doe_1.dcm")
    (folder / "zero.dcm").symlink_to("/dev/zero")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.dcm")
    copy(data, folder, 1, ".hidden.dcm")
    for name in ("link.dcm", "zero.dcm", "pipe.dcm", ".hidden.dcm"):
        reader.notify(str(folder / name), 0.0, closed=True)
    assert [*reader.scan(0.0), *reader.read(0.5, 0.0)] == []


def test_no_name_comes_out(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mindsight")
    folder = tmp_path / "Doe^John"
    folder.mkdir()
    with watch(folder) as transport:
        (folder / "Doe_cut.dcm").write_bytes(trio_file(data, 1).read_bytes()[:5000])
        (folder / "Doe.txt").write_text("Doe")
        items = take(transport, lambda items: len(codes(items)) >= 2)
    assert sorted(codes(items)) == ["dicom.not_dicom", "dicom.truncated"] or "dicom.unreadable" in codes(items)
    assert "Doe" not in repr(items) + caplog.text


def test_which_mounts_are_polled() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /mnt/scan nfs4 rw 0 0\n//h/y /mnt/my\\040scans cifs rw 0 0\nbad\n"
    assert not others_write(Path("/home/x"), mounts)
    assert others_write(Path("/mnt/scan/a"), mounts)
    assert others_write(Path("/mnt/my scans"), mounts)
    assert not others_write(Path("/mnt/scanner"), mounts)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        watch(tmp_path / "Doe")
    assert "Doe" not in str(caught.value)


@pytest.mark.slow
def test_a_whole_real_run(data: Path, tmp_path: Path) -> None:
    files = sorted((data / "trio_run155" / "dcm").iterdir())

    def scanner() -> None:
        for file in files:
            shutil.copy(file, tmp_path)
            time.sleep(0.01)

    with watch(tmp_path, expected=Expected(n_volumes=155)) as transport:
        thread = threading.Thread(target=scanner)
        thread.start()
        items = take(transport, lambda items: bool(ends(items)), 60.0)
        thread.join()
    assert warnings_in(items) == []
    for volume, truth in zip(volumes(items), read_series(data / "trio_run155" / "dcm"), strict=True):
        assert volume.index == truth.index
        np.testing.assert_array_equal(volume.data, truth.data)
