"""The pair that ships: it matches its manifest, and draws what its tokens describe and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mindsight.assets import DEMO
from mindsight.encoders.demo import DemoEncoder, to_grid
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.generators.engines.base import PlainEngine
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.simulator.scenes import random_scenes, render_batch
from training.generator.figures import psnr_db, token_noises


@pytest.fixture(scope="module")
def encoder() -> DemoEncoder:
    return DemoEncoder.load(DEMO / "encoder")


@pytest.fixture(scope="module")
def generator() -> DemoGenerator:
    return DemoGenerator.load(DEMO / "generator")


@pytest.fixture(scope="module")
def shown() -> NDArray[np.uint8]:
    return render_batch(random_scenes(np.random.default_rng(77), 64), 64)


@pytest.fixture(scope="module")
def tokens(encoder: DemoEncoder, shown: NDArray[np.uint8]) -> NDArray[np.float32]:
    return encoder.encode(shown)


def test_the_pair_is_the_one_its_figures_speak_of(encoder: DemoEncoder, generator: DemoGenerator) -> None:
    digests = json.loads((DEMO / "figures.json").read_text())["digests"]
    assert digests == {"encoder": encoder.digest, "generator": generator.digest}
    assert generator.config.encoder_digest == encoder.digest


def test_tokens_are_sixteen_of_sixty_four_and_normalised(tokens: NDArray[np.float32]) -> None:
    assert tokens.shape == (64, 16, 64)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(tokens.mean(2), 0.0, atol=1e-5)
    np.testing.assert_allclose(tokens.std(2), 1.0, atol=1e-2)


def test_scenes_are_distinguished_through_token_noise(tokens: NDArray[np.float32]) -> None:
    flat = tokens.reshape(64, -1)
    noisy = flat + np.random.default_rng(0).standard_normal(flat.shape).astype(np.float32)
    nearest = np.linalg.norm(noisy[:, None] - flat[None], axis=2).argmin(1)
    assert (nearest == np.arange(64)).mean() >= 0.98


@pytest.mark.parametrize("steps", [2, 4])
def test_it_draws_fresh_scenes_and_not_those_of_other_tokens(
    generator: DemoGenerator, tokens: NDArray[np.float32], shown: NDArray[np.uint8], steps: int
) -> None:
    drawn = psnr_db(generator.generate(tokens, seed=0, steps=steps), shown)
    wrong = psnr_db(generator.generate(np.roll(tokens, 1, axis=0), seed=0, steps=steps), shown)
    assert drawn >= 26.0
    assert wrong <= drawn - 10.0


@pytest.mark.parametrize(("kind", "level"), [("white", 0.5), ("scene_shaped", 0.3)])
def test_small_and_noisy_tokens_still_give_the_scene(
    generator: DemoGenerator, tokens: NDArray[np.float32], shown: NDArray[np.uint8], kind: str, level: float
) -> None:
    noise = token_noises(tokens, np.random.default_rng(0))[kind]
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    noisy = np.float32(0.8) * tokens + np.float32(level) * noise
    assert psnr_db(generator.generate(noisy, seed=0), shown) >= 24.0


def test_bundles_that_do_not_record_it_are_drawn_in_four_steps(generator: DemoGenerator) -> None:
    assert generator.evaluations(SampleOptions()) == 4


def test_the_seed_decides_the_bytes(generator: DemoGenerator, tokens: NDArray[np.float32]) -> None:
    first, again, other = (generator.generate(tokens[:2], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_image_does_not_depend_on_its_company(generator: DemoGenerator, tokens: NDArray[np.float32]) -> None:
    alone = generator.generate(tokens[5:6], seed=3).astype(int)
    together = generator.generate(tokens[:8], seed=3)[5:6].astype(int)
    assert np.abs(alone - together).max() <= 1  # another batch size may sum in another order


def test_tokens_of_another_shape_are_refused(generator: DemoGenerator) -> None:
    with pytest.raises(BadRequest, match=r"\(B, 16, 64\), got \(2, 4, 64\)"):
        generator.generate(np.zeros((2, 4, 64), np.float32), seed=0)


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    shutil.copytree(DEMO / "generator", tmp_path / "generator")
    weights = tmp_path / "generator" / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelMismatch, match=r"generator\.safetensors"):
        DemoGenerator.load(tmp_path / "generator")


def test_an_engine_runs_the_network_in_its_place(generator: DemoGenerator) -> None:
    (network,) = generator.networks
    assert network.precision == "float32"
    evaluated = []

    def engine(*inputs: torch.Tensor) -> torch.Tensor:
        assert [one.shape[1:] for one in inputs] == [torch.Size(one.shape) for one in network.inputs]
        assert [one.dtype for one in inputs] == [one.dtype for one in network.inputs]
        evaluated.append(inputs)
        output: torch.Tensor = network.module(*inputs)
        return output

    tokens = np.random.default_rng(3).standard_normal((2, 16, 64)).astype(np.float32)
    expected = generator.generate(tokens, 1, steps=3)
    using = DemoGenerator.load(DEMO / "generator")
    using.use(PlainEngine({"denoiser": engine}))
    np.testing.assert_array_equal(using.generate(tokens, 1, steps=3), expected)
    assert len(evaluated) == 3


def test_the_grid_of_tokens_does_not_fix_the_batch() -> None:
    class Grid(torch.nn.Module):
        def forward(self, tokens_BND: torch.Tensor) -> torch.Tensor:
            return to_grid(tokens_BND)

    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(Grid(), (torch.zeros(2, 4, 3),), dynamic_shapes={"tokens_BND": {0: batch}})
    assert exported.module()(torch.zeros(5, 4, 3)).shape == (5, 3, 2, 2)
