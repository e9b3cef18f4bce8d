"""The unCLIP as a generator: its networks may run on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindsight.generators.base import SampleOptions
from mindsight.generators.engines.base import PlainEngine
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
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
