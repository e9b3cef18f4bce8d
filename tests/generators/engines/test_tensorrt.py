"""TensorRT on a machine without a card: it builds, and refuses to run in one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch, NotInstalled
from mindsight.generators.engines import folder as folders
from mindsight.generators.engines import registry, tensorrt
from mindsight.generators.engines.probe import probe
from mindsight.generators.engines.tensorrt_progress import Phases
from support import small_sdxl

SOURCE = "5" * 64
without_a_card = pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without a CUDA card")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    networks = [small_sdxl.preview(torch.float16)]
    return registry.build("tensorrt", networks, SOURCE, tmp_path_factory.mktemp("engines"), [], lambda what, done: None)


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / built.name))


def test_an_engine_says_what_it_is_for_and_keeps_nothing_else(engine: Path) -> None:
    description = folders.read_description(engine)
    assert description.capabilities == ("8.6", "8.9", "12.0")
    assert description.runtime == tensorrt.runtime()
    assert description.precision == {"preview": "float16"}
    assert folders.files_in(engine) == ["engine.json", "manifest.json", "preview.plan"]


@without_a_card
def test_without_a_card_it_is_refused_in_one_line(engine: Path) -> None:
    for attempt in (registry.load_verified, lambda *of: registry.verify_engine(of[0], [small_sdxl.preview()], of[1])):
        with pytest.raises(ModelMismatch, match=r"expected a CUDA card with its driver.*use eager or onnx") as refused:
            attempt(engine, SOURCE)
        assert refused.value.code == "engine.driver"


@without_a_card
def test_the_probe_finds_that_there_is_no_driver(engine: Path) -> None:
    """The runtime itself is asked, in a process of its own."""
    with pytest.raises(ModelMismatch, match="expected a CUDA card with a driver for TensorRT, got none") as refused:
        probe(engine)
    assert refused.value.code == "engine.unusable"


def test_a_damaged_plan_is_named(engine: Path) -> None:
    (engine / "preview.plan").write_bytes(b"x" * 9000)
    refused = tensorrt.open_alone(engine, ["preview"])
    assert refused is not None
    assert refused.startswith("preview.plan: expected a whole plan, got a damaged one")


@pytest.mark.slow
def test_a_probe_that_fails_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(
        ModelMismatch, match="expected an engine that runs here, got a trial that failed with"
    ) as refused:
        probe(tmp_path)
    assert "\n" not in str(refused.value)


def test_cards_that_it_cannot_build_for_are_refused() -> None:
    assert tensorrt.capabilities([]) == ("8.6", "8.9", "12.0")
    assert tensorrt.capabilities(["8.0"]) == ("8.0",)
    with pytest.raises(BadRequest, match=r"expected compute capabilities of .*8\.9.*, got 9\.0: take the compiled"):
        tensorrt.capabilities(["8.9", "9.0"])


def test_a_graph_that_it_does_not_read_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_bytes(b"no graph")
    with pytest.raises(BadRequest, match="expected TensorRT to build the preview, got ") as refused:
        tensorrt.build_plan(tmp_path / "wrong.onnx", small_sdxl.preview(), ["8.9"], lambda share: None)
    assert "\n" not in str(refused.value)


def test_an_install_without_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NotInstalled, match=r'pip install "mindsight\[tensorrt\]"'):
        tensorrt.runtime()


def test_phases_within_phases_are_one_share() -> None:
    phases = Phases()
    phases.start("all", 4)
    assert phases.share == 0.0
    phases.step("all")
    phases.start("inner", 2)
    phases.step("inner")
    assert phases.share == pytest.approx(1 / 4 + 1 / 8)
    phases.finish("inner")
    assert phases.share == pytest.approx(3 / 8)  # it never goes back
    for _ in range(3):
        phases.step("all")
    assert phases.share == 1.0
