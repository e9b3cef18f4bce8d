"""``mindsight engine`` from building to timing, on a generator of one small network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mindsight.cli import main
from mindsight.generators.engines.base import Network, NetworkInput
from mindsight.generators.registry import KINDS
from mindsight.weights.artefact import read_artefact, write_artefact
from mindsight.weights.device import Placement


class Small:
    """A generator of which engines need no more than this."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        artefact = read_artefact(folder, "small")
        self.digest = artefact.digest
        module = torch.nn.Conv2d(4, 3, 3).requires_grad_(False)
        module.load_state_dict(artefact.tensors)
        placement.place(module)
        self.networks = (Network("denoiser", module, (NetworkInput("input", (4, 8, 8), placement.torch_dtype),)),)


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kinds: Any = KINDS
    monkeypatch.setitem(kinds, "small", Small)
    monkeypatch.setitem(kinds, "closed", lambda folder, placement: object())
    monkeypatch.setenv("MINDSIGHT_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "generator"
    write_artefact(folder, "small", {}, torch.nn.Conv2d(4, 3, 3).state_dict())
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mindsight", "engine", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.mark.slow
def test_build_list_verify_bench(generator: Path, tmp_path: Path, run: Any) -> None:
    assert run("list")[1].startswith("no engines in ")

    code, out, err = run("build", "onnx", "--generator", str(generator))
    assert code == 0
    assert re.search(r"(onnx-\w{16}): denoiser by onnxruntime \S+, [\d,]+ bytes\n", out)
    assert err.splitlines()[0] == "exporting the denoiser, 0% done"
    (engine,) = (tmp_path / "data" / "engines").iterdir()
    assert re.search(r"denoiser in float32  onnxruntime \S+ +not verified\n", run("list")[1])

    code, out, _ = run("verify", engine.name, "--generator", str(generator))
    assert (code, out.split(":")[0]) == (0, f"{engine.name} computes on cpu what eager does; relative error")
    assert run("list")[1].rstrip().endswith("verified on cpu")
    assert json.loads(run("list", "--json")[1])[0]["verified_on"] == "cpu"

    code, out, _ = run("bench", "--generator", str(generator))
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["engine", "network", "batch", "ms", "relative", "error"]
    assert [line.split()[0] for line in lines] == ["eager", "eager", engine.name, engine.name]
    assert all(re.search(r"denoiser +[12] +[\d.]+ +\d\.\de[-+]\d+\s*$", line) for line in lines)

    (engine / "engine.json").write_bytes(b"{}")
    code, out, err = run("verify", engine.name, "--generator", str(generator))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "engine.json is changed (its digest differs)" in err
    assert "expected the engine as written" in run("list")[1]


def test_what_cannot_be_built_is_one_line(generator: Path, tmp_path: Path, run: Any) -> None:
    code, out, err = run("build", "tensorrt", "--card", "9.0", "--generator", str(generator))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "got 9.0" in err
    assert "[engine.card]" in err

    write_artefact(tmp_path / "closed", "closed", {}, {})
    code, out, err = run("build", "onnx", "--generator", str(tmp_path / "closed"))
    assert (code, err.count("\n")) == (1, 1)
    assert "[engine.generator]" in err
    assert not (tmp_path / "data" / "engines").exists()
