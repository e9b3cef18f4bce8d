"""The command: from a configuration to a student that loads as any generator does, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_generator
from mindsight.generators.unclip import load_unclip
from mindsight.generators.unclip.sdxl.convert import write_unclip
from mindsight.retrieval.from_files import build_from_files
from support.tiny_unclip import SIZE_PX, tiny_parts, tiny_space
from training.distillation.command import main

Write = Callable[..., Path]


@pytest.mark.slow
def test_a_student_is_trained_measured_and_loads_as_a_generator(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write()
    assert main([str(config)]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "run/generator"

    student = load_generator(folder)
    [(name, space)] = student.spaces.items()
    features = {name: np.random.default_rng(2).standard_normal((2, *space.shape)).astype(np.float32)}
    assert student.evaluations(SampleOptions()) == 4  # the preset that it is made for, not the usual one
    assert student.evaluations(SampleOptions(steps=2)) == 2
    assert student(features, 3, SampleOptions()).shape == (2, 32, 32, 3)
    changed = [
        key
        for key, tensor in load_unclip(folder).unet.state_dict().items()
        if not np.array_equal(tensor, tiny_parts().unet[key].half().float())
    ]
    assert {key.rsplit(".", 1)[1] for key in changed} == {"weight"}

    figures = json.loads((tmp_path / "run/fidelity.json").read_text())
    rows = {row["title"]: row for row in figures["rows"]}
    assert [row["evaluations"] for row in rows.values()] == [0, 76, 11, 4, 2, 4, 2]
    for row in (*rows.values(), figures["control"]):
        for key in ("pixcorr", "ssim", "token_cosine", "retrieval"):
            low, high = row[key]["interval"]
            assert low <= row[key]["value"] <= high
            assert row[key]["n"] == 3
            assert math.isfinite(row[key]["value"])
    assert rows["student, 4 steps"]["likeness"]["value"] <= 1.0
    card = (folder / "README.md").read_text()
    assert printed in card
    assert "3 images; chance of retrieval 33.3%" in printed

    assert main([str(config)]) == 1
    assert "holds its generator already" in capsys.readouterr().err

    (folder / "README.md").unlink()  # as if it had been stopped while it measured
    (tmp_path / "run/fidelity.json").unlink()
    weights = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))]
    assert main([str(config)]) == 0
    again = {row["title"]: row for row in json.loads((tmp_path / "run/fidelity.json").read_text())["rows"]}
    assert again["student, 2 steps"]["pixcorr"] == rows["student, 2 steps"]["pixcorr"]
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))] == weights


def refused(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(config)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidence": 5.0}, "got the unknown key guidence; there are teacher, pool,"),
        ({"learning_rate": None}, "got none for learning_rate"),
        ({"steps": 0}, "got steps = 0"),
        ({"precision": "float16"}, "precision = 'float16'"),
        ({"batch": "many"}, "batch = 'many'"),
        ({"teacher": "nowhere"}, "expected an unCLIP's weights"),
        ({"pool": "nowhere"}, "expected a pool"),
        ({"images": "nowhere"}, "expected a folder with PNG or JPEG files"),
        ({"held_out": 9}, "more images than the 9 that are held out"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_one_line(
    write: Write, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert message in refused(write(**changes), capsys)


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in refused(tmp_path / "none.toml", capsys)
    (tmp_path / "bad.toml").write_text("teacher = \n")
    assert "cannot be read" in refused(tmp_path / "bad.toml", capsys)


def test_tokens_of_another_encoder_are_refused(
    write: Write, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = work / "unclip/tower.safetensors"
    build_from_files(work / "images.h5", tmp_path / "pool", weights=tower, model=str(work / "tiny.json"), values="clip")
    line = refused(write(pool=str(tmp_path / "pool")), capsys)
    assert "build one with the teacher's image tower" in line


def test_a_teacher_without_an_encoder_is_refused_before_it_is_trained(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = replace(tiny_parts(), tower={})
    write_unclip(tmp_path / "blind", parts, torch.float16, space=tiny_space(), size_px=SIZE_PX)
    assert "expected the image tower of openclip-tiny-tokens" in refused(write(teacher=str(tmp_path / "blind")), capsys)


def test_a_teacher_of_another_architecture_is_refused(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sd/unet").mkdir(parents=True)
    (tmp_path / "sd/vae").mkdir()
    for part in ("unet", "vae"):
        (tmp_path / "sd" / part / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    assert "expected configurations of an SDXL U-Net" in refused(write(teacher=str(tmp_path / "sd")), capsys)
