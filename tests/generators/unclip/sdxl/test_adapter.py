"""The unCLIP as a generator: its networks may run on an engine, and its image tower measures what it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.generators.engines.base import PlainEngine
from mindsight.generators.registry import load_encoder_of
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.reconstruction_fit import FitMeter, token_cosine
from support.card import CARD
from support.tiny_unclip import write_tiny


def test_an_engine_runs_its_networks_in_their_place(tmp_path: Path) -> None:
    write_tiny(tmp_path / "unclip")
    generator, using = (UnclipGenerator.load(tmp_path / "unclip") for _ in range(2))
    modules = {one.name: one.module for one in generator.networks}
    given: dict[str, list[list[tuple[Any, ...]]]] = {name: [] for name in modules}

    def runner(name: str) -> Any:
        def run(*inputs: torch.Tensor) -> torch.Tensor:
            given[name].append([(one.shape[1:], one.dtype) for one in inputs])
            output: torch.Tensor = modules[name](*inputs)
            return output

        return run

    using.use(PlainEngine({name: runner(name) for name in modules}))
    [(name, space)] = generator.spaces.items()
    features = {name: np.random.default_rng(2).standard_normal((1, *space.shape)).astype(np.float32)}
    options = SampleOptions(steps=2)
    np.testing.assert_array_equal(using(features, 3, options), generator(features, 3, options))
    for network in generator.networks:
        expected = [(torch.Size(one.shape), one.dtype) for one in network.inputs]
        assert given[network.name]
        assert all(one == expected for one in given[network.name])


def test_its_image_tower_measures_what_it_draws(tmp_path: Path) -> None:
    """The tower of the folder is the encoder of the generator's tokens; in half precision it gives nearly the same."""
    write_tiny(tmp_path / "unclip")
    generator = UnclipGenerator.load(tmp_path / "unclip")
    exact = load_encoder_of(tmp_path / "unclip")
    [space] = generator.spaces.values()
    assert exact.space == space
    meter = FitMeter(exact, generator)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    encoded_1ND = meter.encoded(picture)
    assert encoded_1ND.shape == (1, *space.shape)
    half = FitMeter(load_encoder_of(tmp_path / "unclip", CARD), generator).encoded(picture)
    assert half.dtype == np.float32
    assert token_cosine(half, encoded_1ND) > 1.0 - 2.0**-11


def test_a_folder_without_its_tower_has_no_encoder(tmp_path: Path) -> None:
    write_tiny(tmp_path / "unclip")
    (tmp_path / "unclip" / "tower.safetensors").unlink()
    with pytest.raises(ModelMismatch) as error:
        load_encoder_of(tmp_path / "unclip")
    assert error.value.code == "generator.encoder"


def test_a_tower_of_an_unknown_configuration_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "unclip")
    (tmp_path / "unclip" / "tiny.json").unlink()
    with pytest.raises(BadRequest) as error:
        load_encoder_of(tmp_path / "unclip")
    assert error.value.code == "tower.model"
