"""An engine beside the eager networks on fixed inputs: what it computes must be what they compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsight.errors import ModelMismatch
from mindsight.generators.engines.base import Engine, Network

BATCHES = (1, 2)
TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""Precision -> largest relative error, root mean square. In half precision some 700 roundings, of either sign, follow
each other at SDXL's depth: each side is off by sqrt(700) halves of a unit in the last place (1.3e-2 in float16), both
together by less than twice that. In float32 it is a fortieth of a grey level."""


@torch.inference_mode()
def errors(engine: Engine, networks: Sequence[Network]) -> dict[str, float]:
    """Network -> root mean square of the difference from eager over that of eager, the larger of batches 1 and 2.

    Raises ModelMismatch (``engine.differs``) if one is larger than its precision explains, or not a number.
    """
    found = {one.name: max(error(engine, one, batch) for batch in BATCHES) for one in networks}
    for one in networks:
        if not found[one.name] <= TOLERANCE[one.precision]:
            raise ModelMismatch(
                f"expected the {one.name} to differ from eager by at most {TOLERANCE[one.precision]:g} in"
                f" {one.precision}, got {found[one.name]:.2g}: build the engine again, or use another one",
                code="engine.differs",
            )
    return found


@torch.inference_mode()
def error(engine: Engine, network: Network, batch: int) -> float:
    """Root mean square of the difference from eager over that of eager, on fixed inputs."""
    inputs = network.example(batch)
    expected = network.module(*inputs).float()
    got = engine.networks[network.name](*inputs).float()
    return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())
