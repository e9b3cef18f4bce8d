"""A data folder is copied while it is written, and restored to something that holds together."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer, Log
from mindsight.errors import BadRequest, Conflict, Diverged, NotFound
from mindsight.files.chain import Chain
from mindsight.operations.backup import MANIFEST, back_up, restore
from mindsight.settings import Settings

N = 200


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def written(settings: Settings) -> Iterator[threading.Event]:
    """A service's folder; while the event is clear, payloads and then references to them are written."""
    (settings.subjects_dir).mkdir(parents=True)
    (settings.subjects_dir / "sub-a.json").write_text("{}")
    (settings.data_dir / "keys.json").write_text("{}")
    (settings.data_dir / "keys.json").chmod(0o600)
    stop, store = threading.Event(), BlobStore(settings.blobs_dir)
    with EmbeddedServer(settings), closing(Bus.from_settings(settings)) as bus:

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                digest = store.put(f"payload {number}".encode())
                Log(bus, "s", "input").append(f"k{number}", digest.encode())

        thread = threading.Thread(target=write)
        thread.start()
        while Log(bus, "s", "input").last_seq() < N:
            assert thread.is_alive()
        yield stop
        stop.set()
        thread.join()


def restored(settings: Settings, folder: Path, name: str) -> Settings:
    there = Settings(data_dir=settings.data_dir.with_name(name))
    restore(there, folder)
    return there


@pytest.mark.slow
def test_a_copy_made_while_it_is_written_holds_together(
    settings: Settings, written: threading.Event, tmp_path: Path
) -> None:
    made = back_up(settings, tmp_path / "copy")
    written.set()
    there = restored(settings, tmp_path / "copy", "there")
    with EmbeddedServer(there), closing(Bus.from_settings(there)) as bus:
        entries = Log(bus, "s", "input").read(limit=10**6)
    assert len(entries) >= N
    store = BlobStore(there.blobs_dir)
    assert {store.get(entry.payload.decode())[:7] for entry in entries} == {b"payload"}
    assert made.n_files >= N
    assert (there.data_dir / "keys.json").stat().st_mode & 0o777 == 0o600
    assert (there.data_dir).stat().st_mode & 0o777 == 0o700


def test_a_second_copy_takes_what_is_new_and_leaves_out_what_was_erased(
    settings: Settings, written: threading.Event, tmp_path: Path
) -> None:
    written.set()
    first = back_up(settings, tmp_path / "copy")
    (settings.subjects_dir / "sub-a.json").unlink()
    BlobStore(settings.blobs_dir).put(b"one more")
    second = back_up(settings, tmp_path / "copy")
    assert second.n_new < 20 < first.n_new
    there = restored(settings, tmp_path / "copy", "there")
    assert not (there.subjects_dir / "sub-a.json").exists()
    assert not (tmp_path / "copy" / "subjects").exists()


@pytest.mark.slow
def test_a_copy_that_was_damaged_is_made_again_and_a_good_one_outlives_its_source(
    settings: Settings, written: threading.Event, tmp_path: Path
) -> None:
    written.set()
    back_up(settings, tmp_path / "copy")
    first, second, third = sorted((tmp_path / "copy" / "blobs").glob("??/*"))[:3]
    good = [path.read_bytes() for path in (first, second, third)]
    in_data = [settings.data_dir / path.relative_to(tmp_path / "copy") for path in (first, second, third)]
    first.write_bytes(b"?" + good[0][1:])
    in_data[1].write_bytes(b"?" + good[1][1:])
    for path in (third, in_data[2]):
        path.write_bytes(b"?" + good[2][1:])
    again = back_up(settings, tmp_path / "copy")
    assert [path.read_bytes() for path in (first, second)] == good[:2]
    assert again.damaged == (third.relative_to(tmp_path / "copy").as_posix(),)


def test_the_audit_log_s_copy_ends_with_a_line(settings: Settings, written: threading.Event, tmp_path: Path) -> None:
    """While it is written to: a plain copy of this one ends in the middle of a line about once in a few hundred."""
    written.set()
    chain = Chain(settings.audit_file)
    chain.append({"n": 1})
    with settings.audit_file.open("ab") as file:
        file.write(b'{"number": 2, "bef')
    back_up(settings, tmp_path / "copy")
    copied = Chain(restored(settings, tmp_path / "copy", "there").audit_file)
    assert (list(copied.verify()), copied.ends()[1]) == (list(chain.verify()), 0)


def test_what_cannot_be_restored_is_refused_before_the_data_folder_is_there(
    settings: Settings, written: threading.Event, tmp_path: Path
) -> None:
    written.set()
    copy = tmp_path / "copy"
    with pytest.raises(NotFound, match="finished backup"):
        restored(settings, copy, "there")
    back_up(settings, copy)
    with pytest.raises(Conflict, match="empty data folder"):
        restore(settings, copy)
    payload = next(path for path in (copy / "blobs").glob("??/*"))
    content = payload.read_bytes()
    payload.write_bytes(b"?" + content[1:])
    with pytest.raises(Diverged, match=payload.name):
        restored(settings, copy, "there")
    payload.unlink()
    with pytest.raises(Diverged, match=payload.name):
        restored(settings, copy, "there")
    payload.write_bytes(content)
    document = json.loads((copy / MANIFEST).read_bytes())
    for change in ({"layout": 2}, {"files": {"../keys.json": document["files"]["keys.json"]}}):
        (copy / MANIFEST).write_text(json.dumps(document | change))
        with pytest.raises((BadRequest, Diverged)):
            restored(settings, copy, "there")
    assert not (tmp_path / "there").exists()


def test_a_bucket_is_not_copied_and_named_on_the_way_back(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", blobs_url="s3://lab-payloads/decoder")
    settings.data_dir.mkdir()
    (settings.data_dir / "keys.json").write_text("{}")
    made = back_up(settings, tmp_path / "copy")
    assert (made.n_files, made.blobs_url) == (1, "s3://lab-payloads/decoder")
    assert restore(Settings(data_dir=tmp_path / "there"), tmp_path / "copy").blobs_url == "s3://lab-payloads/decoder"


def test_a_folder_that_is_no_backup_is_not_touched(
    settings: Settings, written: threading.Event, tmp_path: Path
) -> None:
    written.set()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for folder in (other, settings.data_dir, settings.data_dir / "inside", tmp_path):
        with pytest.raises(BadRequest):
            back_up(settings, folder)
    assert (other / "thesis.txt").read_text() == "mine"
    with pytest.raises(NotFound):
        back_up(Settings(data_dir=tmp_path / "none"), tmp_path / "copy")
