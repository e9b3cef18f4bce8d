"""The command, killed at any moment and given again, ends with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS, EVERY = 60, 4
CONFIG = f"""
out = "run"
steps = {STEPS}
batch = 16
learning_rate = 1e-3
memory = "half"
evaluate_every = 20
checkpoint_every = {EVERY}
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


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "pretrain.toml").write_text(CONFIG)
    environment = os.environ | {"MINDSIGHT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "training.pretraining", str(folder / "pretrain.toml")]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def lines(folder: Path) -> list[str]:
    path = folder / "run/metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    assert start(tmp_path / "straight").wait(300) == 0
    killed = tmp_path / "killed"
    for after in (EVERY + 2, 25, 41):
        process = start(killed)
        deadline = time.monotonic() + 300
        while len(lines(killed)) < after and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9
    assert start(killed).wait(300) == 0
    assert lines(killed) == lines(tmp_path / "straight")
    for file in ("run/mindeye2/mindeye2.safetensors", "run/figures.json", "run/split.json"):
        assert (killed / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()
