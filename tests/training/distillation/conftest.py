"""A teacher, its pool and the images of both, in seconds: random weights, which a student can follow as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mindsight.generators.unclip.sdxl.folder import Read, read_folder
from mindsight.retrieval.from_files import build_from_files
from mindsight.simulator.scenes import random_scenes, render_batch
from support.tiny_unclip import SIZE_PX, write_tiny
from training.course.team import Team
from training.distillation.config import Config
from training.distillation.examples import Examples
from training.distillation.networks import make_networks
from training.distillation.train import Training

N_IMAGES, HELD_OUT = 9, 3


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``unclip``, ``images.h5``, ``pool`` and ``tiny.json``, the image tower's configuration."""
    folder = tmp_path_factory.mktemp("distillation")
    write_tiny(folder / "unclip")
    with h5py.File(folder / "images.h5", "w") as file:
        file["images"] = render_batch(random_scenes(np.random.default_rng(1), N_IMAGES), SIZE_PX)
    tower = folder / "unclip/tower.safetensors"
    build_from_files(folder / "images.h5", folder / "pool", weights=tower, model=str(folder / "tiny.json"))
    return folder


@pytest.fixture
def write(work: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration, with these keys changed, or left out where they are None."""

    def write(**changes: Any) -> Path:
        paths = {name: str(work / name) for name in ("unclip", "pool", "images.h5")}
        held = {
            "teacher": paths["unclip"], "pool": paths["pool"], "images": paths["images.h5"], "out": "run",
            "steps": 2, "batch": 2, "learning_rate": 1e-3, "rank": 2,
            "held_out": HELD_OUT, "precision": "float32", "checkpoint_every": 1, **changes,
        }  # fmt: skip
        path = tmp_path / "distil.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in held.items() if value is not None))
        return path

    return write


@pytest.fixture(scope="session")
def read(work: Path) -> Read:
    return read_folder(work / "unclip")


@pytest.fixture
def make(work: Path, tmp_path: Path, read: Read) -> Callable[..., Training]:
    """A run in which nothing has been done."""

    def make(team: Team | None = None, **changes: Any) -> Training:
        given = {
            "teacher": work / "unclip", "pool": work / "pool", "images": work / "images.h5", "out": tmp_path / "run",
            "steps": 4, "batch": 4, "learning_rate": 1e-3, "rank": 2, "held_out": HELD_OUT, "precision": "float32",
            "checkpoint_every": 2, **changes,
        }  # fmt: skip
        config = Config(**given)
        assert read.space is not None
        examples = Examples.open(config.pool, config.images, read.space, read.size_px, config.held_out)
        networks, teacher = make_networks(config, read, "cpu")
        return Training(config, networks, examples, teacher, team or Team())

    return make
