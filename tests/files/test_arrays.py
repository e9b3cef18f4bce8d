"""Arrays in NumPy's files: read as they were written, and what is damaged is told by a ValueError."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindsight.files.arrays import parse_npy, read_npy, read_npz


def damaged(content: bytes) -> list[bytes]:
    """Nothing, a part, another header, a shape of more than there is, and objects."""
    header = content.index(b"{")
    huge = content.replace(b"(3, 4)", b"(3" + b"0" * 15 + b", 4)").replace(b" " * 15, b"", 1)
    return [
        b"",
        content[:5],
        content[:-1],
        content[:header] + b"{" * 40 + content[header + 40 :],
        huge,
        b"PK" + content,
    ]


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    np.save(tmp_path / "one.npy", np.arange(12.0).reshape(3, 4))
    return (tmp_path / "one.npy").read_bytes()


def test_an_array_is_read_as_it_was_written(tmp_path: Path, content: bytes) -> None:
    for array in (read_npy(tmp_path / "one.npy"), parse_npy(content)):
        np.testing.assert_array_equal(array, np.arange(12.0).reshape(3, 4))
    np.savez_compressed(tmp_path / "some.npz", v1=np.ones(3, bool), v2=np.zeros(2))
    assert {name: list(array) for name, array in read_npz(tmp_path / "some.npz").items()} == {
        "v1": [True] * 3, "v2": [0.0] * 2,
    }  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_file_is_told_by_a_value_error(tmp_path: Path, content: bytes, number: int) -> None:
    def from_file(content: bytes) -> object:
        (tmp_path / "bad.npy").write_bytes(content)
        return read_npy(tmp_path / "bad.npy")

    def from_archive(content: bytes) -> object:
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
            archive.writestr("v1.npy", content)
        return read_npz(tmp_path / "bad.npz")

    reads: list[Callable[[bytes], object]] = [from_file, parse_npy, from_archive]
    for read in reads:
        with pytest.raises(ValueError, match=r"\w") as error:
            read(damaged(content)[number])
        assert "\n" not in str(error.value)


def test_an_archive_that_states_more_than_it_may_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", v1=np.zeros(2**20, np.uint8))
    monkeypatch.setattr("mindsight.files.arrays.MAX_UNPACKED_BYTES", 2**20)
    assert (tmp_path / "bomb.npz").stat().st_size < 10_000
    with pytest.raises(ValueError, match="states 1048704 bytes"):
        read_npz(tmp_path / "bomb.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="zip"):
        read_npz(tmp_path / "one.npy")
