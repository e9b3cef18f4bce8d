"""An engine from its building to its work, on the smallest of SDXL's networks; and every reason to refuse one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.errors import BadRequest, MindsightError, ModelMismatch
from mindsight.files.manifest import MANIFEST
from mindsight.generators.engines import folder as folders
from mindsight.generators.engines import registry, verify
from mindsight.generators.engines.base import Engine, Network, PlainEngine
from mindsight.operations.inference_check import InferenceCheck
from mindsight.settings import Settings
from support import small_sdxl

SOURCE = "5" * 64


@pytest.fixture(scope="module")
def networks() -> tuple[Network, ...]:
    return (small_sdxl.preview(),)


@pytest.fixture(scope="module")
def built(networks: tuple[Network, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    reports: list[tuple[str, float]] = []
    engines = tmp_path_factory.mktemp("engines")
    built = registry.build("onnx", networks, SOURCE, engines, [], lambda what, done: reports.append((what, done)))
    assert [done for _, done in reports] == sorted(done for _, done in reports)
    assert (reports[0], reports[-1]) == (("exporting the preview", 0.0), ("built", 1.0))
    assert folders.engines_in(engines) == [built]
    return built


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / built.name))


def refusal(engine: Path, source: str = SOURCE) -> str:
    with pytest.raises(ModelMismatch) as refused:
        registry.load_verified(engine, source)
    assert "\n" not in str(refused.value)
    return refused.value.code


def test_a_verified_engine_computes_what_eager_does(engine: Path, networks: tuple[Network, ...]) -> None:
    assert refusal(engine) == "engine.unverified"
    record = registry.verify_engine(engine, networks, SOURCE)
    assert record.device == "cpu"
    assert 0.0 < record.errors["preview"] < 1e-5
    loaded = registry.load_verified(engine, SOURCE)
    inputs = networks[0].example(5)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.networks["preview"](*inputs), networks[0].module(*inputs))


def test_the_same_network_is_the_same_engine_and_another_precision_another(
    built: Path, networks: tuple[Network, ...], tmp_path: Path
) -> None:
    again = registry.build("onnx", networks, SOURCE, tmp_path, [], lambda what, done: None)
    assert again.name == built.name
    assert (again / "preview.onnx").read_bytes() == (built / "preview.onnx").read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in (built / "preview.onnx").read_bytes()
    description = folders.read_description(built)
    assert description.key == built.name
    others: list[dict[str, Any]] = [
        {"graphs": {"preview": "8" * 64}},
        {"precision": {"preview": "float16"}},
        {"runtime": "onnxruntime 1.0.0"},
        {"capabilities": ("8.9",)},
    ]
    assert len({built.name, *(replace(description, **other).key for other in others)}) == 5


@pytest.mark.parametrize("name", ["preview.onnx", "preview.onnx.data", "engine.json"])
def test_a_changed_file_is_refused(name: str, engine: Path, networks: tuple[Network, ...]) -> None:
    registry.verify_engine(engine, networks, SOURCE)
    content = bytearray((engine / name).read_bytes())
    content[len(content) // 2] ^= 1
    (engine / name).write_bytes(content)
    assert refusal(engine) == "engine.tampered"


def test_an_added_a_missing_and_an_unfinished_file_are_refused(engine: Path) -> None:
    (engine / "more.plan").write_bytes(b"")
    assert refusal(engine) == "engine.tampered"
    (engine / "more.plan").unlink()
    (engine / "preview.onnx").unlink()
    assert refusal(engine) == "engine.tampered"
    (engine / MANIFEST).unlink()  # it is written last
    assert refusal(engine) == "engine.unreadable"


def test_what_fits_something_else_is_refused(engine: Path, networks: tuple[Network, ...]) -> None:
    registry.verify_engine(engine, networks, SOURCE)
    assert refusal(engine, source="6" * 64) == "engine.source"
    verified = json.loads((engine / "verified.json").read_bytes())
    (engine / "verified.json").write_text(json.dumps(verified | {"device": "another card"}))
    assert refusal(engine) == "engine.unverified"
    (engine / "verified.json").write_text(json.dumps(verified | {"manifest": "7" * 64}))
    assert refusal(engine) == "engine.unverified"
    (engine / "verified.json").write_text("{}")
    assert refusal(engine) == "engine.unreadable"
    (engine / "verified.json").unlink()
    folders.write_description(engine, replace(folders.read_description(engine), runtime="onnxruntime 1.0.0"))
    assert refusal(engine) == "engine.runtime"


def test_an_engine_of_other_networks_is_refused(engine: Path, networks: tuple[Network, ...]) -> None:
    with pytest.raises(ModelMismatch, match="expected an engine of decoder, got one of preview") as refused:
        registry.verify_engine(engine, [Network("decoder", networks[0].module, networks[0].inputs)], SOURCE)
    assert refused.value.code == "engine.networks"


def test_an_engine_that_computes_something_else_is_not_verified(networks: tuple[Network, ...]) -> None:
    (network,) = networks

    def wrong(*inputs: Tensor) -> Tensor:
        output: Tensor = network.module(*inputs)
        return output * 1.001

    def broken(*inputs: Tensor) -> Tensor:
        return wrong(*inputs) * float("nan")

    for run in (wrong, broken):
        with pytest.raises(ModelMismatch, match=r"the preview to differ from eager by at most 0\.0001") as refused:
            verify.errors(PlainEngine({"preview": run}), networks)
        assert refused.value.code == "engine.differs"


def test_an_engine_that_does_not_exist_is_one_line(tmp_path: Path, networks: tuple[Network, ...]) -> None:
    with pytest.raises(BadRequest, match="expected an engine of onnx, tensorrt, got 'eager': choose one"):
        registry.build("eager", networks, SOURCE, tmp_path, [], lambda what, done: None)


def test_compiled_needs_a_card(networks: tuple[Network, ...]) -> None:
    with pytest.raises(
        BadRequest, match="expected the preview on a CUDA card for the engine compiled, got cpu"
    ) as refused:
        registry.in_memory("compiled", networks)
    assert refused.value.code == "engine.card"


class Generating:
    """A generator, of which engines know no more."""

    digest = SOURCE

    def __init__(self, *networks: Network) -> None:
        self.networks = networks
        self.engine: Engine | None = None

    def use(self, engine: Engine) -> None:
        self.engine = engine


def test_a_generator_takes_a_verified_engine_of_its_precision(engine: Path, networks: tuple[Network, ...]) -> None:
    generator = Generating(*networks)
    registry.put_to_work("eager", generator, engine.parent)
    with pytest.raises(ModelMismatch, match="run mindsight engine verify on this machine"):
        registry.put_to_work(engine.name, generator, engine.parent)
    assert generator.engine is None
    registry.verify_engine(engine, networks, SOURCE)
    registry.put_to_work(engine.name, generator, engine.parent)
    assert generator.engine is not None
    assert set(generator.engine.networks) == {"preview"}
    with pytest.raises(
        ModelMismatch, match=r"expected an engine of preview in float16.*got preview in float32"
    ) as refused:
        registry.put_to_work(engine.name, Generating(small_sdxl.preview(torch.float16)), engine.parent)
    assert refused.value.code == "engine.precision"
    with pytest.raises(
        ModelMismatch, match="expected an engine of keys_values, preview, got one of preview"
    ) as refused:
        registry.put_to_work(engine.name, Generating(*networks, small_sdxl.keys_values()), engine.parent)
    assert refused.value.code == "engine.networks"
    with pytest.raises(ModelMismatch, match="got object: it runs eager only"):
        registry.put_to_work(engine.name, object(), engine.parent)


def test_doctor_finds_an_engine_that_cannot_be_used(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, device="cpu")
    assert "engine eager" in InferenceCheck(settings).generator()
    for name, code in (("onnx-0000", "engine.missing"), ("compiled", "engine.card")):
        with pytest.raises(MindsightError) as refused:
            InferenceCheck(settings.model_copy(update={"engine": name})).generator()
        assert refused.value.code == code
