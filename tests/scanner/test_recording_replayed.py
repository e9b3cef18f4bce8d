"""What any transport delivered is replayed the same: from its recording to the bit, from the session's archive too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.archive import ArchivedEvent, ArchivedRun, ArchivedSession, write_archive
from mindsight.errors import BadVolume
from mindsight.events import RunEvent
from mindsight.scanner.recording import keep, open_run
from mindsight.scanner.transports import Item, Transport, TransportWarning
from mindsight.scanner.transports.watch import FolderWatch
from mindsight.volume import Volume
from support import afni_sender as afni
from support import cstore_sender as cstore
from support import murfi_sender as murfi
from support.nifti_files import image
from support.taking import CLOCK, SHORT_TIMEOUTS, ends, take, trio_file, until_volumes, volumes

N = 5
LOST = 3


class Kept:
    """A transport whose volumes are kept."""

    def __init__(self, transport: Transport, folder: Path) -> None:
        self._transport, self._folder = transport, folder
        self.close = transport.close

    def items(self) -> object:
        return keep(self._transport.items(), self._folder)


def watched_dicom(data: Path, trio: list[Volume], tmp_path: Path, take_all: Callable[[Transport], list[Item]]) -> None:
    (tmp_path / "in").mkdir()
    with FolderWatch(tmp_path / "in", clock=CLOCK, timeouts=SHORT_TIMEOUTS) as transport:
        for k in range(N):
            if k != LOST:
                shutil.copy(trio_file(data, k + 1), tmp_path / "in")
        take_all(transport)


def watched_nifti(data: Path, trio: list[Volume], tmp_path: Path, take_all: Callable[[Transport], list[Item]]) -> None:
    (tmp_path / "in").mkdir()
    with FolderWatch(tmp_path / "in", clock=CLOCK, timeouts=SHORT_TIMEOUTS) as transport:
        for k in range(N):
            if k != LOST:
                image(trio[k]).to_filename(tmp_path / "in" / f"v{k + 1}.nii.gz")
        take_all(transport)


def stored(data: Path, trio: list[Volume], tmp_path: Path, take_all: Callable[[Transport], list[Item]]) -> None:
    with cstore.receiver() as transport, cstore.association(transport) as peer:
        for k in range(N):
            if k != LOST:
                assert cstore.store(peer, trio_file(data, k + 1)) == 0
        take_all(transport)


def by_afni(data: Path, trio: list[Volume], tmp_path: Path, take_all: Callable[[Transport], list[Item]]) -> None:
    with afni.receiver() as transport:
        afni.sender(transport, [afni.header(trio[0]), *(afni.image(trio[k]) for k in range(N))])
        take_all(transport)


def by_murfi(data: Path, trio: list[Volume], tmp_path: Path, take_all: Callable[[Transport], list[Item]]) -> None:
    with murfi.receiver() as transport:
        murfi.send_run(transport, trio, [k for k in range(N) if k != LOST], mosaic=True)
        take_all(transport)


@pytest.fixture(scope="module", params=[watched_dicom, watched_nifti, stored, by_afni, by_murfi])
def run(
    request: pytest.FixtureRequest, data: Path, trio: list[Volume], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Item], Path]:
    """What came of a real run, with one volume lost where the protocol can lose one, and its recording."""
    tmp_path = tmp_path_factory.mktemp("run")
    came: list[Item] = []
    n = N if request.param is by_afni else N - 1

    def take_all(transport: Transport) -> list[Item]:
        came.extend(take(Kept(transport, tmp_path / "kept"), until_volumes(n)))  # type: ignore[arg-type]
        return came

    request.param(data, trio, tmp_path, take_all)
    assert len(volumes(came)) == n
    return came, tmp_path / "kept" / "run-001"


def test_a_recording_is_what_came(run: tuple[list[Item], Path], trio: list[Volume]) -> None:
    came, folder = run
    replayed = open_run(folder)
    assert (replayed.n_volumes, replayed.tr_s, replayed.shape) == (N, 1.97, (74, 74, 36))
    for _ in range(2):  # a series may be read again
        for volume, truth in zip(replayed.volumes(), volumes(came), strict=True):
            assert volume.data.dtype == truth.data.dtype
            np.testing.assert_array_equal(volume.data, truth.data)
            np.testing.assert_array_equal(volume.affine, truth.affine)
            np.testing.assert_array_equal(volume.slice_times_s, truth.slice_times_s)
            for name in ("run", "index", "tr_s", "acquired_s", "arrived_s", "trigger_s"):
                assert getattr(volume, name) == getattr(truth, name)
            np.testing.assert_array_equal(volume.data, trio[volume.index].data)


def test_an_archive_is_what_came(run: tuple[list[Item], Path], tmp_path: Path) -> None:
    came, _ = run
    by_index = {volume.index: volume for volume in volumes(came)}
    archived = ArchivedRun(
        run=1,
        task="view",
        tr_s=1.97,
        n_volumes=N,
        volumes=[by_index.get(k) for k in range(N)],
        events=[ArchivedEvent(RunEvent(2.0, 1.0, "face"), trial=1)],
        motion_T6=np.zeros((N, 6)),
        fd_mm_T=np.zeros(N),
        dvars_percent_T=np.zeros(N),
        censored_T=np.zeros(N, dtype=bool),
    )
    write_archive(ArchivedSession(subject="a", session="b", runs=[archived]), tmp_path / "archive")
    (path,) = (tmp_path / "archive" / "rawdata").rglob("*_bold.nii.gz")
    replayed = open_run(path, 2)
    assert (replayed.n_volumes, replayed.tr_s) == (N, 1.97)
    assert [(event.onset_s, event.label) for event in replayed.events] == [(2.0, "face")]
    for volume, truth in zip(replayed.volumes(), volumes(came), strict=True):
        assert (volume.run, volume.index) == (2, truth.index)
        np.testing.assert_array_equal(volume.data, truth.data)
        np.testing.assert_allclose(volume.affine, truth.affine, rtol=1e-6, atol=1e-5)  # float32 in NIfTI
        if truth.slice_times_s is not None:
            np.testing.assert_allclose(volume.slice_times_s, truth.slice_times_s, atol=1e-6)


def small(index: int) -> Volume:
    return Volume(np.full((3, 4, 5), index, np.int16), np.eye(4), 1.0, 1, index, arrived_s=1e9 + index)


def test_a_bad_file_of_a_recording_is_reported(tmp_path: Path) -> None:
    assert len(list(keep([small(k) for k in range(4)], tmp_path))) == 4
    folder = tmp_path / "run-001"
    whole = (folder / "volume-000002.msv").read_bytes()
    (folder / "volume-000002.msv").write_bytes(whole[:-1])
    shutil.copy(folder / "volume-000000.msv", folder / "volume-000001.msv")
    errors: list[BadVolume] = []
    assert [volume.index for volume in open_run(folder, on_bad=errors.append).volumes()] == [0, 3]
    assert [error.code for error in errors] == ["recording.mixed", "volume.payload_truncated"]
    with pytest.raises(BadVolume):
        list(open_run(folder).volumes())


def test_a_given_repetition_time_overrides_that_of_a_recording(tmp_path: Path) -> None:
    list(keep([small(0), small(1)], tmp_path))
    given = open_run(tmp_path / "run-001", tr_s=1.5)
    assert given.tr_s == 1.5
    assert [volume.tr_s for volume in given.volumes()] == [1.5, 1.5]


def test_a_recording_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    items = list(keep([small(0), small(1)], tmp_path / "file"))
    assert [type(item) for item in items] == [TransportWarning, Volume, Volume]
    assert ends(items) == []


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    """A restarted stream counts its runs from 1 again."""
    list(keep([small(k) for k in range(3)], tmp_path))
    other = replace(small(0), data=np.full((3, 4, 5), 9, np.int16))
    list(keep([other, replace(other, run=2)], tmp_path))
    assert [volume.data[0, 0, 0] for volume in open_run(tmp_path / "run-001").volumes()] == [0, 1, 2]
    for name in ("run-002", "run-003"):
        assert [volume.data[0, 0, 0] for volume in open_run(tmp_path / name).volumes()] == [9]


def test_events_beside_a_recording_that_are_no_text_are_reported(tmp_path: Path) -> None:
    list(keep([small(0)], tmp_path))
    (tmp_path / "run-001" / "events.tsv").write_bytes(b"onset\tduration\ttrial_type\n1\t1\tB\xe4r\n")
    recorded = open_run(tmp_path / "run-001")
    assert (recorded.n_volumes, recorded.events) == (1, [])
    assert [note.code for note in recorded.notes] == ["events.encoding"]
