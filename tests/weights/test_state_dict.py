"""The same tensors from every kind of file; nothing is run, and nothing is read that is not used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.state_dict import read_safetensors, read_state_dict, source_files, write_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64)}


def assert_same(found: dict[str, Tensor]) -> None:
    assert sorted(found) == sorted(STATE)
    assert all(torch.equal(found[key], tensor) for key, tensor in STATE.items())


@pytest.mark.parametrize("wrapper", [None, "model_state_dict", "state_dict"])
def test_bare_or_wrapped_with_other_things_beside(tmp_path: Path, wrapper: str | None) -> None:
    held: dict[str, object] = {"epoch": 3, **STATE} if wrapper is None else {wrapper: STATE, "optimizer": {"lr": 1.0}}
    torch.save(held, tmp_path / "last.pth")
    assert_same(read_state_dict(tmp_path / "last.pth"))
    assert source_files(tmp_path / "last.pth") == [tmp_path / "last.pth"]


def test_safetensors(tmp_path: Path) -> None:
    write_state_dict(tmp_path / "last.safetensors", STATE)
    assert_same(read_state_dict(tmp_path / "last.safetensors"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_not_used_is_not_read(tmp_path: Path, suffix: str) -> None:
    large = {"large": torch.zeros(1 << 25), "small": torch.ones(2)}
    path = tmp_path / f"large.{suffix}"
    torch.save(large, path) if suffix == "pth" else write_state_dict(path, large)
    n_bytes = large.pop("large").numel() * 4
    before = resident_bytes()
    state = read_state_dict(path)
    assert torch.equal(state["small"], torch.ones(2))
    assert resident_bytes() - before < n_bytes / 2
    assert state["large"].sum() == 0
    assert resident_bytes() - before > n_bytes / 2  # the measure sees what is read


@pytest.mark.parametrize(("held", "match"), [({"state_dict": 3}, "got a int"), ([1], "got last.pth with a list")])
def test_a_file_without_a_state_dict(tmp_path: Path, held: object, match: str) -> None:
    torch.save(held, tmp_path / "last.pth")
    with pytest.raises(ModelMismatch, match=match) as error:
        read_state_dict(tmp_path / "last.pth")
    assert error.value.code == "checkpoint.unreadable"


def test_a_damaged_safetensors_file_is_refused_under_the_callers_code(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    for read, code in ((read_state_dict, "checkpoint.unreadable"), (read_safetensors, "checkpoint.unreadable")):
        with pytest.raises(ModelMismatch, match=r"cut\.safetensors") as error:
            read(tmp_path / "cut.safetensors")
        assert error.value.code == code
    with pytest.raises(ModelMismatch) as error:
        read_safetensors(tmp_path / "none.safetensors", code="model.file")
    assert error.value.code == "model.file"
