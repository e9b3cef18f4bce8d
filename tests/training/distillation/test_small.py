"""The long form: a small teacher is trained on scenes, and its student gives its latents in four and in two steps.

With a teacher that is trained for less, there is nothing to gain: what its tokens say does not show in its latents yet.
``benchmarks/bench_distillation.py`` measures the same students by their images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mindsight.generators.unclip import Unclip, plan
from mindsight.generators.unclip.sdxl.folder import read_folder
from mindsight.generators.unclip.sdxl.loading import built
from training.course.team import Team
from training.distillation.config import Config
from training.distillation.examples import Examples
from training.distillation.networks import make_networks
from training.distillation.train import Training, run
from training.recipes.small_unclip import Recipe, make

RECIPE = Recipe()


@pytest.mark.figures
def test_a_student_gives_its_teachers_latents_in_a_tenth_of_the_steps(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """Nearer to the guided teacher's than the teacher's own weights come in as few steps, from the same noise."""
    make(tmp_path, RECIPE)
    config = Config(
        teacher=tmp_path / "unclip", pool=tmp_path / "pool", images=tmp_path / "scenes.h5", out=tmp_path / "run",
        weights="all", steps=200, batch=16, learning_rate=3e-4, precision="float32", held_out=RECIPE.held_out,
    )  # fmt: skip
    read = read_folder(config.teacher)
    assert read.space is not None
    examples = Examples.open(config.pool, config.images, read.space, read.size_px, config.held_out)
    networks, unclip = make_networks(config, read, "cpu")
    run(Training(config, networks, examples, unclip, Team()), config.out, {}, time.monotonic)

    student = built(replace(read, unet=networks.merged(read.unet)), torch.float32, "cpu")
    tokens = torch.from_numpy(examples.tokens(range(examples.n_trained, len(examples.pool))))
    wanted = latents(unclip, tokens, "reference", 38)
    off = distance_to(wanted)
    found = {
        (whose, steps): off(latents(network, tokens, "distilled", steps))
        for whose, network in (("teacher", unclip), ("student", student))
        for steps in (4, 2)
    }
    listed = ", ".join(f"{whose} in {steps} steps {distance:.3f}" for (whose, steps), distance in found.items())
    others = off(wanted.roll(1, 0))
    record_property(
        "figures",
        f"distillation at small size: root mean square distance of latents from the teacher's in 38 steps, {listed};"
        f" from those of other tokens and the same noise {others:.3f}",
    )
    for steps in (4, 2):
        assert found["student", steps] < 0.9 * found["teacher", steps] < 0.9 * others


def latents(unclip: Unclip, tokens: Tensor, preset: str, steps: int) -> Tensor:
    """One noise for all tokens: what differs between them is what they say."""
    with torch.inference_mode():
        table = plan(preset, steps)
        return unclip.latents(table, unclip.inputs(table, tokens, seed=3))


def distance_to(wanted: Tensor) -> Callable[[Tensor], float]:
    return lambda found: float((found - wanted).square().mean().sqrt())
