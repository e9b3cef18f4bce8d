"""The recorded reference: weights, inputs and outputs of the original classes at small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2, load_mindeye2


@pytest.fixture(scope="session")
def reference(shared: Path) -> dict[str, Any]:
    return dict(torch.load(shared / "fixtures/mindeye2_small.pt", weights_only=True))


@pytest.fixture(scope="session")
def weights(reference: dict[str, Any]) -> dict[str, Tensor]:
    return {key: tensor.float() for key, tensor in reference["state_dict"].items()}


@pytest.fixture(scope="session")
def model(weights: dict[str, Tensor]) -> MindEye2:
    return load_mindeye2(weights).requires_grad_(False)
