"""Runs the brain's own tests under node, against poses, headers and messages made here."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.preprocessing.motion import rigid
from mindsight.protocol import EventAdded, RoiDeclared, RoiMeasured, RoiValue, RunStarted, SpaceKnown, dump_message
from service.nifti import nifti_bytes

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)


def motion() -> NDArray[np.float64]:
    centre_mm = RNG.uniform(-40, 40, 3)
    return rigid.about(rigid.from_angles(RNG.uniform(-0.2, 0.2, 3)), RNG.uniform(-5, 5, 3), centre_mm)


def row(of: NDArray[np.float64]) -> dict[str, Any]:
    return {"translationMm": of[:3, 3].tolist(), "rotationDeg": np.rad2deg(rigid.angles(of)).tolist()}


def poses() -> list[dict[str, Any]]:
    """A session's reference is ``to_reference`` away from the subject's; volume 0 was registered, volume 1 is shown."""
    to_reference, first, second = motion(), motion(), motion()
    registration = {"index": 0, "reference_to_run": (first @ to_reference).ravel().tolist()}
    volumes = [row(first), row(second)]
    found = [
        {"run": {"registration": registration, "volumes": volumes}, "expected": second @ to_reference},
        {"run": {"registration": registration, "volumes": [volumes[0], {}]}, "expected": first @ to_reference},
        {"run": {"registration": None, "volumes": [{}, {}]}, "expected": np.eye(4)},
    ]
    return [{**case, "index": 1, "expected": case["expected"].ravel().tolist()} for case in found]


def image() -> dict[str, Any]:
    shape, affine, pose = (6, 7, 5), np.diag([-3.0, 3.0, 3.5, 1.0]), motion()
    affine[:3, 3] = [8.0, -9.0, -7.0]
    placed = rigid.inverse(pose) @ affine
    voxels = [[0, 0, 0], [5, 6, 4], [2, 3, 1]]
    there = [{"mm": (placed[:3, :3] @ v + placed[:3, 3] + 0.4).tolist(), "voxel": v} for v in voxels]
    outside = placed[:3, :3] @ [-1, 0, 0] + placed[:3, 3]
    return {
        "nifti": base64.b64encode(nifti_bytes(np.zeros(shape, np.uint8), affine)).decode(),
        "pose": pose.ravel().tolist(),
        "affine": placed.ravel().tolist(),
        "shape": shape,
        "voxels": [*there, {"mm": outside.tolist(), "voxel": None}],
    }


def messages() -> list[dict[str, Any]]:
    common: dict[str, Any] = {"session": "ses-a", "t": 1.0}
    of_run = {**common, "run": 1}
    value = RoiValue(name="left", mean=103.0, percent=1.5, n_voxels=5)
    sent = [
        RunStarted(**of_run, task="feedback", tr_s=2.0),
        RoiDeclared(**common, name="left", mask="a" * 64, n_voxels=5),
        EventAdded(**of_run, onset_s=1.0, duration_s=2.0),
        EventAdded(**of_run, onset_s=5.0, duration_s=2.0, trial=1),
        SpaceKnown(**common, shape=(3, 3, 3), n_voxels=9, reference="b" * 64, mask="c" * 64),
        RoiMeasured(**of_run, index=2, at_s=4.0, censored=False, rois=(value,)),
    ]
    return [json.loads(dump_message(m.model_copy(update={"id": k}))) for k, m in enumerate(sent, 1)]


def test_the_brain_s_figures_under_node(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node 20 or newer to run the page's figures, which this machine does not have")
    (tmp_path / "brain.json").write_text(json.dumps({"poses": poses(), "image": image(), "messages": messages()}))
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(HERE / "brain.test.mjs")],
        env={"MINDSIGHT_CASES": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# tests 3" in done.stdout
