"""Two processes that ``torchrun`` starts train as one with the whole batch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindsight.weights.state_dict import read_safetensors
from support.tolerance import rounding

STEPS = 3
LEARNING_RATE = 1e-3


def trained(config: Path, processes: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The course of a run, and its weights."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-P", "-m", *(launcher if processes > 1 else []), "training.distillation", str(config)]
    subprocess.run(command, check=True, env=os.environ | {"MINDSIGHT_DEVICE": "cpu", "PYTHONSAFEPATH": "1"})
    out = config.parent / "run"
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return curve, read_safetensors(out / f"checkpoints/step-{STEPS:08d}/state.safetensors")


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(write: Callable[..., Path], tmp_path: Path) -> None:
    config = write(steps=STEPS, batch=4, learning_rate=LEARNING_RATE, rank=4)
    curve, state = trained(config, 1)
    (tmp_path / "run").rename(tmp_path / "alone")
    shared_curve, shared_state = trained(config, 2)

    close = rounding(9 * 96 * 40 * 2 * 4)  # see test_train
    for alone, shared in zip(curve, shared_curve, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=STEPS * close)
        assert shared["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=STEPS * close)
    # Adam's step is the sign of a gradient that is nothing but rounding: there, and only there, weights may differ by
    # two steps for each of the run's.
    differences = np.concatenate(
        [(state[name] - shared_state[name]).abs().flatten().numpy() for name in state if name.startswith("trained.")]
    )
    assert differences.max() <= 2.0 * STEPS * LEARNING_RATE
    assert np.mean(differences > 0.01 * LEARNING_RATE) < 0.05  # of a wrong mean nearly all would differ
