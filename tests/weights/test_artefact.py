"""A model folder is what its manifest says, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mindsight.errors import ModelMismatch
from mindsight.weights.artefact import read_artefact, write_artefact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_artefact(tmp_path / "model", "encoder", {"width": 3}, {"w": torch.tensor([[1.0, 0.1]]).T})
    return tmp_path / "model"


def test_what_was_written_comes_back_in_half_precision(folder: Path, tmp_path: Path) -> None:
    artefact = read_artefact(folder, "encoder")
    assert artefact.config == {"width": 3}
    torch.testing.assert_close(artefact.tensors["w"], torch.tensor([[1.0], [0.1]]), atol=1e-4, rtol=0)
    assert artefact.tensors["w"].dtype == torch.float32
    assert artefact.digest == write_artefact(tmp_path / "copy", "encoder", artefact.config, artefact.tensors)


@pytest.mark.parametrize("name", ["config.json", "encoder.safetensors"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-3] + b"\x00" + content[-2:])
    with pytest.raises(ModelMismatch, match=name):
        read_artefact(folder, "encoder")


@pytest.mark.parametrize("name", ["config.json", "encoder.safetensors", "manifest.json"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelMismatch):
        read_artefact(folder, "encoder")


def test_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(ModelMismatch, match="got a encoder"):
        read_artefact(folder, "generator")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "kind": "encoder"}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelMismatch):
        read_artefact(folder, "encoder")


def test_a_manifest_that_leaves_out_the_weights_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["encoder.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelMismatch):
        read_artefact(folder, "encoder")
