"""What was written durably is there whole, synced in an order that no power loss can turn into a part."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mindsight.errors import StorageFull
from mindsight.files.durable import (
    make_folder,
    publish_folder,
    rename_durably,
    storage_errors,
    write_durably,
    write_whole,
)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Syncs and renames in their order, each carried out."""
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition(".")[0]))

    def noted_rename(path: Path, target: Path) -> Path:
        done.append(("rename", target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    monkeypatch.setattr(Path, "rename", noted_rename)
    return done


def test_data_are_synced_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    write_durably(tmp_path / "new" / "file", b"content")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"
    assert steps == [("sync", tmp_path.name), ("sync", "file"), ("rename", "file"), ("sync", "new")]


def test_what_is_whole_but_not_durable_is_not_synced(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    write_whole(tmp_path / "new" / "file", b"content")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"
    assert steps == [("rename", "file")]


def test_a_folder_is_synced_from_its_files_upwards_before_it_has_its_name(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    (tmp_path / "partial" / "inner").mkdir(parents=True)
    (tmp_path / "partial" / "inner" / "deep").write_bytes(b"1")
    (tmp_path / "partial" / "top").write_bytes(b"2")
    publish_folder(tmp_path / "partial", tmp_path / "whole")
    assert steps == [
        ("sync", "deep"),
        ("sync", "inner"),
        ("sync", "top"),
        ("sync", "partial"),
        ("rename", "whole"),
        ("sync", tmp_path.name),
    ]
    assert (tmp_path / "whole" / "inner" / "deep").read_bytes() == b"1"


def test_a_renamed_file_is_synced_by_its_new_folder(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    make_folder(tmp_path / "there")
    (tmp_path / "here").write_bytes(b"1")
    rename_durably(tmp_path / "here", tmp_path / "there" / "file")
    assert steps == [("sync", tmp_path.name), ("rename", "file"), ("sync", "there")]


@pytest.mark.parametrize("write", [write_durably, write_whole])
def test_the_old_content_stays_and_nothing_else_where_the_new_one_does_not_fit(
    tmp_path: Path, write: Callable[[Path, bytes], None], small_files: None
) -> None:
    write(tmp_path / "file", b"old")
    with pytest.raises(StorageFull, match="EFBIG") as full:
        write(tmp_path / "file", bytes(1 << 20))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert str(tmp_path) not in str(full.value)


def test_a_private_file_is_private_from_the_start_and_stays_so(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        write_durably(tmp_path / "keys", content, mode=0o600)
        assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "file" / "inside", b"")
    with pytest.raises(FileNotFoundError), storage_errors():
        rename_durably(tmp_path / "none", tmp_path / "other")
