"""The long form: a small teacher is trained on scenes, and its student makes its images in four and in two steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.distillation.command import distil
from training.distillation.config import Config
from training.distillation.fidelity import Row, table
from training.distillation.team import Team
from training.recipes.small_unclip import Recipe, make

RECIPE = Recipe(scenes=600, held_out=40, vae_steps=300, unet_steps=400)


@pytest.mark.slow
def test_a_student_makes_its_teachers_images_in_a_tenth_of_the_steps(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """Against the teacher's own weights in as few steps, image by image."""
    make(tmp_path, RECIPE)
    config = Config(
        teacher=tmp_path / "unclip", pool=tmp_path / "pool", images=tmp_path / "scenes.h5", out=tmp_path / "student",
        weights="all", steps=120, batch=16, learning_rate=3e-4, precision="float32", held_out=RECIPE.held_out,
    )  # fmt: skip
    fidelity = distil(config, Team())
    assert fidelity is not None
    record_property("figures", f"distillation at small size\n{table(fidelity)}")
    rows = {row.title: row for row in fidelity.rows}
    for steps in (4, 2):
        gained_K = likeness_K(rows[f"student, {steps} steps"]) - likeness_K(rows[f"teacher, {steps} steps"])
        assert gained_K.mean() > 3.0 * gained_K.std() / np.sqrt(len(gained_K))  # three standard errors
    reference, control = rows["teacher, reference"], fidelity.control
    assert reference.scores[0].value > control.scores[0].interval(np.random.default_rng(0))[1]


def likeness_K(row: Row) -> np.ndarray:
    assert row.likeness is not None
    return row.likeness.values_K
