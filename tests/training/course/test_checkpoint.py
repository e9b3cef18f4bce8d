"""Checkpoints: the newest two are kept, and what a kill left half written is removed."""

from __future__ import annotations

from pathlib import Path

import torch

from training.course.checkpoint import newest_checkpoint, save_checkpoint


def test_what_a_kill_left_is_removed_and_two_are_kept(tmp_path: Path) -> None:
    begun = tmp_path / ".step-00000004.abc"
    begun.mkdir()
    (begun / "state.safetensors").write_bytes(bytes(100))
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, "test", step, {"seed": 0}, {"w": torch.full((2,), float(step))})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    found = newest_checkpoint(tmp_path, "test", {"seed": 0})
    assert found is not None
    assert (found.step, found.state["w"].tolist()) == (3, [3.0, 3.0])
