"""Arrays and strings in safetensors files, packed, read and mapped."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.errors import ModelMismatch, StorageFull
from mindsight.weights.state_dict import write_state_dict
from mindsight.weights.tensors import (
    map_tensors,
    pack_tensors,
    read_metadata,
    read_tensors,
    tensor_header,
    write_tensors,
)

ARRAYS = {"half": np.arange(6, dtype=np.float16).reshape(2, 3), "flags": np.array([True, False]), "none": np.zeros(0)}


def test_what_is_packed_is_read_and_mapped(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(pack_tensors({**ARRAYS, "turned": ARRAYS["half"].T}, {"note": "kept"}))
    assert read_metadata(path) == {"note": "kept"}
    for found in (read_tensors(path), map_tensors(path)):
        assert set(found) == {*ARRAYS, "turned"}
        assert np.array_equal(found["turned"], ARRAYS["half"].T)
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_a_file_without_strings(tmp_path: Path) -> None:
    write_tensors(tmp_path / "arrays.safetensors", ARRAYS)
    assert read_metadata(tmp_path / "arrays.safetensors") == {}
    assert np.array_equal(read_tensors(tmp_path / "arrays.safetensors")["half"], ARRAYS["half"])


def test_a_header_and_bytes_are_a_file(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(tensor_header("half", np.dtype(np.float16), (2, 3), size=256) + ARRAYS["half"].tobytes())
    assert path.stat().st_size == 256 + 12
    assert np.array_equal(read_tensors(path)["half"], ARRAYS["half"])
    assert np.array_equal(map_tensors(path)["half"], ARRAYS["half"])


@pytest.mark.parametrize("content", [b"", b"12345678", pack_tensors(ARRAYS, {})[:-4]])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content)
    for read in (map_tensors, read_tensors, read_metadata):
        with pytest.raises(ModelMismatch, match=r"cut\.safetensors") as error:
            read(path)
        assert error.value.code == "model.file"


def test_a_full_disk_is_storage_full_and_leaves_the_old_file(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "arrays.safetensors"
    write_tensors(path, ARRAYS)
    for write in (
        lambda: write_tensors(path, {"large": np.zeros(100_000)}),
        lambda: write_state_dict(path, {"large": torch.zeros(100_000)}),
    ):
        with pytest.raises(StorageFull, match="EFBIG"):
            write()
        assert set(read_tensors(path)) == set(ARRAYS)
        assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "no folder" / "arrays", ARRAYS)
