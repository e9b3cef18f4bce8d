"""The released key layout: every key and shape of the published files, and the tables of the noise schedule."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.testing import assert_close

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout
from training.pretraining.export import noise_tables, released_state


def listed(path: Path) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the file's first list, the 4,096-wide model of one subject with its low-level head."""
    text = path.read_text().split("#### A.")[1].split("####")[0]
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return {row[0]: tuple(int(n) for n in row[1].strip("()").split(",") if n.strip()) for row in rows}


def test_keys_and_shapes_at_the_published_size(shared: Path) -> None:
    layout = Layout(voxels=(15_724,), hidden=4096, tokens=256, dim=1664, lowlevel=True, prior=PriorLayout())
    with torch.device("meta"):
        model = MindEye2(layout)
    state = {key: tensor.shape for key, tensor in (model.state_dict() | noise_tables()).items()}
    published = listed(shared / "fixtures/mindeye2_state_dict.txt")
    assert len(published) == 249
    assert {key: tuple(shape) for key, shape in state.items()} == published


def test_tables_of_the_schedule_are_the_recorded_ones(weights: dict[str, Tensor], model: MindEye2) -> None:
    state = released_state(model)
    assert state.keys() == weights.keys()
    for key, table in noise_tables().items():
        # the reference takes differences of nearly equal float32 numbers
        assert_close(table, weights[key], rtol=2e-3, atol=1e-6)
    assert all(torch.equal(state[key], weights[key]) for key in state if "noise_scheduler" not in key)
