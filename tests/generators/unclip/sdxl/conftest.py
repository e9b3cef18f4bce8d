from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.generators.unclip import Unclip, load_unclip


@pytest.fixture(scope="session")
def recorded(shared: Path) -> dict[str, Any]:
    """Weights, inputs and outputs of the original classes at small size."""
    return dict(torch.load(shared / "fixtures/unclip_tiny.pt", weights_only=True))


@pytest.fixture(scope="session")
def released_state(recorded: dict[str, Any]) -> dict[str, Tensor]:
    return {key: tensor.float() for key, tensor in (recorded["unet"] | recorded["vae"]).items()}


@pytest.fixture(scope="session")
def unclip(released_state: dict[str, Tensor]) -> Unclip:
    return load_unclip(released_state, head_dim=16)


@pytest.fixture(scope="session")
def published(shared: Path) -> dict[str, Tensor]:
    """Every key of the released checkpoint that is listed, at its size, without data."""
    rows = (line.split("\t") for line in (shared / "fixtures/unclip6_state_dict.txt").read_text().splitlines())
    shapes = {row[0]: row[1].strip("()").split(",") for row in rows if len(row) == 2}
    return {key: torch.empty([int(n) for n in of if n.strip()], device="meta") for key, of in shapes.items()}
