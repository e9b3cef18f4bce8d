"""A folder is what its document says, or it is refused under one of three codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mindsight.errors import ModelMismatch
from mindsight.files.manifest import (
    MANIFEST,
    MAX_HASHED_BYTES,
    Proof,
    read_manifest,
    sums_of,
    verify_folder,
    write_manifest,
)

PROOF = Proof("thing", "the thing", "make it again")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "thing"
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "inner" / "b").write_bytes(b"2")
    write_manifest(folder, "sort", sums_of(folder), note="kept")
    return folder


def refused(folder: Path, code: str, match: str, only: set[str] | None = None) -> None:
    with pytest.raises(ModelMismatch, match=match) as error:
        verify_folder(PROOF, folder, read_manifest(PROOF, folder, "sort"), only=only)
    assert error.value.code == f"thing.{code}"
    assert "make it again" in str(error.value)


def test_an_unchanged_folder_passes(folder: Path) -> None:
    sums = read_manifest(PROOF, folder, "sort")
    assert sorted(sums) == ["a", "inner/b"]
    verify_folder(PROOF, folder, sums)
    assert json.loads((folder / MANIFEST).read_text())["note"] == "kept"


def test_changed_missing_and_added_files_are_found(folder: Path) -> None:
    (folder / "inner" / "b").write_bytes(b"3")
    refused(folder, "tampered", "inner/b is changed")
    (folder / "inner" / "b").unlink()
    refused(folder, "tampered", "inner/b is missing")
    (folder / "inner" / "b").write_bytes(b"2")
    (folder / "c").write_bytes(b"")
    refused(folder, "tampered", "c is not in manifest.json")


def test_some_files_are_verified_and_the_others_not_read(folder: Path) -> None:
    (folder / "a").write_bytes(b"other")
    (folder / "c").write_bytes(b"")
    verify_folder(PROOF, folder, read_manifest(PROOF, folder, "sort"), only={"inner/b"})
    refused(folder, "tampered", "c is missing", only={"c"})  # it is there, and its digest is not


def test_no_file_outside_the_folder_is_reached(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"1")
    sums = {name: sums_of(folder)["a"] for name in ("../outside", str(folder.parent / "outside"))}
    for name in sums:
        with pytest.raises(ModelMismatch, match="missing"):
            verify_folder(PROOF, folder, sums, only={name})


def test_a_file_too_large_to_be_read_is_compared_by_size(folder: Path) -> None:
    os.truncate(folder / "a", MAX_HASHED_BYTES + 8)
    sums, size = {"a": "not read"}, MAX_HASHED_BYTES + 8
    verify_folder(PROOF, folder, sums, sizes={"a": size}, only={"a"})
    with pytest.raises(ModelMismatch, match="a is changed"):
        verify_folder(PROOF, folder, sums, sizes={"a": size + 1}, only={"a"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1, "kind": "sort"}', "[" * 100_000])
def test_a_document_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    refused(folder, "unreadable", "valid manifest.json")


@pytest.mark.parametrize(("field", "value"), [("format", 2), ("kind", "other")])
def test_another_format_or_kind(folder: Path, field: str, value: object) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**document, field: value}))
    refused(folder, "version", f"got a .*{value}")
