"""The command: from a configuration to a model that others can read, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mindsight.decoders.mindeye2 import convert_mindeye2, load_mindeye2
from mindsight.errors import ModelMismatch
from support.trials import small_config, small_data
from training.pretraining.command import main, make_model
from training.pretraining.config import ModelTable

SMALL = """
[model]
hidden = 16
n_blocks = 1
prior = {depth = 1, heads = 2, dim_head = 8, inner = 16}
[split]
validation = 0.2
test = 0.2
[[data]]
kind = "simulated"
participants = 2
runs = 2
voxels = 20
scenes = 120
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration, with these keys changed, or left out where they are None."""

    def write(tables: str = SMALL, **changes: Any) -> Path:
        held = {
            "out": "run", "steps": 2, "batch": 8, "learning_rate": 1e-3, "precision": "float32",
            "evaluate_every": 1, "checkpoint_every": 1, **changes,
        }  # fmt: skip
        path = tmp_path / "pretrain.toml"
        keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in held.items() if value is not None)
        path.write_text(keys + tables)
        return path

    return write


@pytest.mark.slow
def test_a_cohort_is_trained_on_and_the_model_is_read_by_all_that_read_released_ones(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write())]) == 0
    printed = capsys.readouterr().out
    run = tmp_path / "run"
    model = load_mindeye2(run / "mindeye2")
    assert model.layout.voxels == (20, 19)
    converted = convert_mindeye2(run / "mindeye2/mindeye2.safetensors", tmp_path / "converted")
    assert [subject.voxels for subject in converted.subjects] == [20, 19]
    assert len(converted.dropped) == 13
    again = load_mindeye2(tmp_path / "converted").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())

    figures = json.loads((run / "figures.json").read_text())
    assert figures["subjects"] == ["simulated-001", "simulated-002"]
    assert "simulated-001" in printed
    n = figures["test"]["all"]["images"]["n"]
    assert f"n = {n} test images of all subjects; chance " in printed
    split = json.loads((run / "split.json").read_text())
    assert split["sha256"] == figures["split"]
    assert [row["step"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == [1, 2]

    assert main([str(write())]) == 1
    assert "holds its mindeye2 already" in capsys.readouterr().err
    assert main([str(write()), "--export", str(tmp_path / "newest")]) == 0
    assert capsys.readouterr().out == "step 2 of 2\n"
    newest = load_mindeye2(tmp_path / "newest").state_dict()
    assert all(torch.equal(tensor, newest[name]) for name, tensor in model.state_dict().items())
    fine = SMALL.replace("participants = 2", "participants = 1\nfirst = 9")
    assert main([str(write(fine, out="fine", start="run/mindeye2", frozen=["backbone.", "diffusion_prior."]))]) == 0
    tuned = load_mindeye2(tmp_path / "fine/mindeye2").state_dict()
    shared = model.state_dict()
    assert {name.split(".")[0] for name in tuned if name not in shared or not tuned[name].equal(shared[name])} == {
        "ridge"
    }
    config = small_config(model=ModelTable(hidden=8, n_blocks=1, prior=False))
    with pytest.raises(ModelMismatch, match="expected weights to start from with hidden 8") as raised:
        make_model(config.model_copy(update={"start": run / "mindeye2"}), small_data())
    assert raised.value.code == "training.start"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stepz": 3}, "the unknown key stepz; there are out, steps"),
        ({"steps": None}, "none for steps"),
        ({"batch": 0}, "batch = 0 (input should be greater than 0)"),
        ({"tables": ""}, "none for data"),
        ({"tables": SMALL.replace("simulated", "real")}, "data.0"),
        ({"tables": SMALL.replace("voxels", "voxel")}, "the unknown key data.0"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(
    write: Callable[..., Path], changes: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write(**changes))]) == 1
    printed = capsys.readouterr().err
    assert expected in printed
    assert printed.count("\n") == 1
    assert "[training.config]" in printed
