"""SDXL in small through every engine that a machine without a card has.

In short, one of the U-Net's transformers is exported; the whole U-Net, once for all long forms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mindsight.generators.engines import eager, onnx, tensorrt
from mindsight.generators.engines.base import Engine, Loop, Network
from mindsight.generators.engines.export import export
from mindsight.generators.engines.folder import EngineDescription
from mindsight.generators.engines.recorded import RecordedLoop
from mindsight.generators.sampling.plan import tabulate
from mindsight.generators.sampling.schedule import trailing
from support import small_sdxl
from support.recorded_operations import record

CARDS = ("8.6", "8.9", "12.0")
PLAN = tabulate(trailing(4))


@pytest.fixture(scope="module")
def networks() -> tuple[Network, ...]:
    return (small_sdxl.denoiser(), small_sdxl.keys_values(), small_sdxl.decoder(), small_sdxl.preview())


@pytest.fixture(scope="module")
def folder(networks: tuple[Network, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them as ONNX."""
    folder = tmp_path_factory.mktemp("onnx")
    for one in networks:
        export(one, folder / f"{one.name}.onnx")
    return folder


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """With its folder, as ONNX."""
    network, folder = small_sdxl.transformer(), tmp_path_factory.mktemp("transformer")
    export(network, folder / "transformer.onnx")
    return network, folder


def description_of(networks: Sequence[Network]) -> EngineDescription:
    graphs = {one.name: "" for one in networks}
    return EngineDescription(
        engine="onnx", source="", graphs=graphs, precision={}, runtime="", exporter="", capabilities=()
    )


def check_graph(network: Network, folder: Path, blocks: int, least: int) -> None:
    """Weights keep their names, and nothing is left that TensorRT does not read. blocks : transformers in it"""
    import onnx_ir

    graph = onnx_ir.load(folder / f"{network.name}.onnx").graph
    kinds = Counter(node.op_type for node in graph)
    names = set(network.module.state_dict())
    assert len(names) > least
    assert names <= set(graph.initializers)
    assert [one.name for one in graph.inputs] == [one.name for one in network.inputs]
    assert not {"SplitToSequence", "SequenceAt"} & set(kinds)
    assert kinds["Split"] == blocks  # its GEGLU
    assert kinds["Attention"] == 2 * blocks
    assert kinds["GroupNormalization"] > 0


def check_plan(network: Network, folder: Path) -> None:
    shares: list[float] = []
    plan = tensorrt.build_plan(folder / f"{network.name}.onnx", network, CARDS, shares.append)
    weights = sum(one.numel() * one.element_size() for one in network.module.parameters())
    assert len(bytes(plan)) > weights / 2
    assert shares == sorted(shares)
    assert 0.0 < shares[-1] <= 1.0


def sampler(engine: Engine) -> Loop:
    """A whole image: keys and values of the tokens, four steps of the U-Net, then the decoder."""

    def sample(noise_BCHW: Tensor, tokens_BND: Tensor, vector_BC: Tensor) -> Tensor:
        keys_values = engine.networks["keys_values"](tokens_BND)

        def predict(latent_BCHW: Tensor, timestep: float, _: bool) -> tuple[Tensor, ...]:
            timestep_B = torch.full((len(latent_BCHW),), timestep, device=latent_BCHW.device)
            return (engine.networks["denoiser"](latent_BCHW, timestep_B, keys_values, vector_BC),)

        return engine.networks["decoder"](PLAN.run(predict, noise_BCHW))

    return sample


def inputs(networks: Sequence[Network], batch: int) -> tuple[Tensor, Tensor, Tensor]:
    noise, _, _, vector = networks[0].example(batch)
    return noise, *networks[1].example(batch), vector


@pytest.mark.slow
def test_a_transformers_graph_is_read_by_tensorrt(transformer: tuple[Network, Path]) -> None:
    check_graph(*transformer, blocks=1, least=20)


@pytest.mark.slow
def test_a_transformer_through_onnxruntime_is_that_of_eager(transformer: tuple[Network, Path]) -> None:
    network, folder = transformer
    (run,) = onnx.load(folder, description_of([network]), None).networks.values()
    for batch in (1, 3):
        given = network.example(batch)
        expected = network.module(*given)
        assert expected.std() > 0.1
        torch.testing.assert_close(run(*given), expected, rtol=0.0, atol=1e-4)


@pytest.mark.slow
def test_tensorrt_builds_a_transformer_for_three_cards_in_one_without_any(transformer: tuple[Network, Path]) -> None:
    check_plan(*transformer)


@pytest.mark.slow
def test_the_u_nets_graph_is_read_by_tensorrt(networks: tuple[Network, ...], folder: Path) -> None:
    check_graph(networks[0], folder, blocks=1 + 1 + 2, least=150)  # on the way down, in the middle, on the way up


@pytest.mark.slow
def test_a_whole_sampling_loop_through_onnxruntime_is_that_of_eager(
    networks: tuple[Network, ...], folder: Path
) -> None:
    engines: list[Engine] = [eager.load(networks), onnx.load(folder, description_of(networks), None)]
    for batch in (1, 3):
        expected, got = (engine.loop(sampler(engine))(*inputs(networks, batch)).numpy() for engine in engines)
        assert expected.shape == (batch, 3, 16, 16)
        assert expected.std() > 1e-2
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoiser", "keys_values", "decoder", "preview"])
def test_tensorrt_builds_for_three_cards_in_one_without_any(
    name: str, networks: tuple[Network, ...], folder: Path
) -> None:
    (network,) = (one for one in networks if one.name == name)
    check_plan(network, folder)


def test_a_recorded_loop_depends_on_its_inputs_alone(networks: tuple[Network, ...]) -> None:
    engine = eager.load(networks)
    calls = 0

    def sample(*given: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return sampler(engine)(*given)

    loop = RecordedLoop(sample, record)
    first, other = (tuple(scale * one for one in inputs(networks, 1)) for scale in (1.0, 0.5))
    images = [loop(*first), loop(*other), loop(*first)]
    assert calls == 1
    torch.testing.assert_close(images[0], images[2], rtol=0.0, atol=0.0)
    for image, given in zip(images, (first, other, first), strict=True):
        torch.testing.assert_close(image, engine.loop(sampler(engine))(*given))
    assert (images[0] - images[1]).abs().max() > 1e-2
    loop(*inputs(networks, 2))
    assert calls == 2  # once for each set of shapes


def test_the_loop_asks_for_no_value_of_a_tensor(networks: tuple[Network, ...]) -> None:
    """Tensors without data stand for the card: whatever would wait for it, or copy from it, stops the walk."""
    on_meta = [Network(one.name, deepcopy(one.module).to("meta"), one.inputs) for one in networks]
    engine = eager.load(on_meta)
    image = sampler(engine)(*inputs(on_meta, 2))
    assert (image.device.type, image.shape) == ("meta", (2, 3, 16, 16))
