"""Trials of random numbers, to train on in milliseconds: tokens that a few factors make, voxels that follow them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindsight.features import FeatureSpace
from training.datasets.images import ArrayImages
from training.datasets.trials import ArrayBetas, Dataset, SubjectTrials
from training.pretraining.config import Config, ModelTable, PriorTable
from training.pretraining.data import Data, make_material, make_split
from training.pretraining.targets import Lowlevel, Targets
from training.pretraining.train import Material

N, D = 4, 16
SPACE = FeatureSpace("factors", (N, D), "none", "0" * 64)


def tokens_of(n: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    mapping = rng.standard_normal((10, N * D))
    return np.tanh(rng.standard_normal((n, 10)) @ mapping / 2).astype(np.float32).reshape(n, N, D)


def images_of(n: int, side: int = 16) -> ArrayImages:
    pixels = np.random.default_rng(2).integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    return ArrayImages(tuple(f"image-{i:03d}" for i in range(n)), pixels)


def subject(number: int, n: int, voxels: int, images: ArrayImages, tokens: np.ndarray, noise: float) -> Any:
    """``n`` trials in two sessions of two runs, every tenth image shown twice."""
    rng = np.random.default_rng([3, number])
    shown = rng.permutation(len(images.ids))[: n - n // 10]
    shown = np.concatenate([shown, shown[: n // 10]])
    clean = tokens[shown].reshape(n, -1) @ rng.standard_normal((N * D, voxels)) / 8
    betas = (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32) + 5.0
    half = n // 2
    return SubjectTrials(
        f"s{number}",
        ArrayBetas(betas),
        tuple(images.ids[i] for i in shown),
        ("1",) * half + ("2",) * (n - half),
        tuple(1 + 4 * i // n for i in range(n)),
        f"mask-{number}",
    )


def small_data(
    n_subjects: int = 2, trials: int = 120, images: int = 150, lowlevel: Lowlevel | None = None, noise: float = 1.0
) -> Data:
    shown, tokens = images_of(images), tokens_of(images)
    subjects = tuple(subject(i, trials, 30 + 5 * i, shown, tokens, noise) for i in range(1, n_subjects + 1))
    return Data(Dataset(subjects), shown, Targets(shown.ids, tokens, SPACE, "0" * 64, lowlevel))


def small_config(**changes: Any) -> Config:
    given: dict[str, Any] = {
        "out": "run", "steps": 4, "batch": 12, "learning_rate": 2e-3, "data": [{"kind": "simulated"}],
        "precision": "float32", "evaluate_every": 2, "checkpoint_every": 2,
        "model": ModelTable(hidden=16, n_blocks=2, prior=PriorTable(depth=1, heads=2, dim_head=8, inner=16)),
        "split": {"validation": 0.1, "test": 0.1}, **changes,
    }  # fmt: skip
    return Config(**given)


def material_of(config: Config, data: Data) -> Material:
    """What a run of this configuration learns from and is measured on."""
    return make_material(config, data, make_split(config, data))
