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
    """Nearer to the guided teacher's than the teacher's own weights come in as few steps, from the same noise.

    By how much depends on the teacher, which differs with the processor that trains it: the held-out images decide.
    """
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
    off_B = distances_to(wanted)
    found = {
        (whose, steps): off_B(latents(network, tokens, "distilled", steps))
        for whose, network in (("teacher", unclip), ("student", student))
        for steps in (4, 2)
    }
    listed = ", ".join(
        f"{whose} in {steps} steps {distance_B.mean():.3f}" for (whose, steps), distance_B in found.items()
    )
    others_B = off_B(wanted.roll(1, 0))
    record_property(
        "figures",
        f"distillation at small size: root mean square distance of latents from the teacher's in 38 steps, {listed};"
        f" from those of other tokens and the same noise {others_B.mean():.3f}",
    )
    for steps in (4, 2):
        for near_B, far_B in ((found["student", steps], found["teacher", steps]), (found["teacher", steps], others_B)):
            gain_B = far_B - near_B
            assert gain_B.mean() > 1.96 * gain_B.std() / len(gain_B) ** 0.5, (steps, listed)


def latents(unclip: Unclip, tokens: Tensor, preset: str, steps: int) -> Tensor:
    """One noise for all tokens: what differs between them is what they say."""
    with torch.inference_mode():
        table = plan(preset, steps)
        return unclip.latents(table, unclip.inputs(table, tokens, seed=3))


def distances_to(wanted: Tensor) -> Callable[[Tensor], Tensor]:
    """Root mean square distance of each image's latents, (B,)."""
    return lambda found: (found - wanted).square().flatten(1).mean(1).sqrt()
