"""Two processes that ``torchrun`` starts train as one does with the same parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindsight.weights.state_dict import read_safetensors
from support.ports import free_port
from support.tolerance import rounding

STEPS, RATE = 3, 1e-3
CONFIG = f"""
out = "run"
steps = {STEPS}
batch = 16
part = 4
learning_rate = {RATE}
precision = "float32"
evaluate_every = 3
checkpoint_every = 3
[model]
hidden = 16
n_blocks = 1
prior = {{depth = 1, heads = 2, dim_head = 8, inner = 16}}
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


def trained(folder: Path, processes: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The course of a run, and its weights."""
    folder.mkdir()
    (folder / "pretrain.toml").write_text(CONFIG)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-P", "-m", *(launcher if processes > 1 else []), "training.pretraining"]
    environment = os.environ | {"MINDSIGHT_DEVICE": "cpu", "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(folder / "pretrain.toml")], check=True, env=environment)
    curve = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return curve, read_safetensors(folder / f"run/checkpoints/step-{STEPS:08d}/state.safetensors")


JOINED = """
import os
from pathlib import Path
import torch
from training.course.team import joined

def threads():
    return [Path(f"/proc/self/task/{number}/comm").read_text() for number in os.listdir("/proc/self/task")]

with joined():
    torch.optim.AdamW([torch.ones(2, requires_grad=True)])
    print(sum("gloo" in name for name in threads()))
print(sum("gloo" in name for name in threads()))
"""


def test_nothing_of_a_team_is_left_when_it_has_parted() -> None:
    """A thread of it that is left aborts, one time in eight on a busy machine, a process that has trained."""
    launched = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "MINDSIGHT_DEVICE": "cpu"}
    finished = subprocess.run(
        [sys.executable, "-c", JOINED], env=os.environ | launched | address, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    while_joined, afterwards = map(int, finished.stdout.split())
    assert while_joined > 0
    assert afterwards == 0


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    curve, state = trained(tmp_path / "one", 1)
    shared_curve, shared_state = trained(tmp_path / "two", 2)
    close = STEPS * rounding(64 * 16 * 16)
    for alone, shared in zip(curve, shared_curve, strict=True):
        for figure in ("loss", "contrast", "prior", "gradient_norm"):
            assert shared[figure] == pytest.approx(alone[figure], rel=close)
    # Adam's step is the sign of a gradient that is nothing but rounding: there, and only there, weights may differ by
    # two steps for each of the run's.
    differences = np.concatenate(
        [(state[name] - shared_state[name]).abs().flatten().numpy() for name in state if name.startswith("trained.")]
    )
    assert differences.max() <= 2.0 * STEPS * RATE
    assert np.mean(differences > 0.01 * RATE) < 0.01
