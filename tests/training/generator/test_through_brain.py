"""Figures of pictures through the brain: those that ship are of what ships, and a beta without a signal gives none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mindsight import assets
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.ingest.outputs import TrialBeta
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.subjects.bundle.folder import Bundle
from training.generator.judge import train_judge
from training.generator.through_brain import Trials, evaluate, sheet

N = 6


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(assets.BUNDLE)


@pytest.fixture(scope="module")
def generator() -> DemoGenerator:
    return DemoGenerator.load(assets.GENERATOR)


@pytest.fixture(scope="module")
def silent(bundle: Bundle) -> Trials:
    """Trials of which every beta is the average one."""
    mean_V, std_V, n = bundle.statistics.mean_V, bundle.statistics.std_V, bundle.statistics.n
    scenes = random_scenes(np.random.default_rng(12), N)
    images = render_batch(scenes, 64)
    betas = tuple(
        TrialBeta(1, trial, "final", mean_V, None, None, 200, False, mean_V, std_V, n, "run")
        for trial in range(1, N + 1)
    )
    return Trials(betas, tuple(scenes), images, DemoEncoder.load(assets.ENCODER).encode(images))


def test_the_figures_are_of_the_bundle_and_the_generator_that_ship(bundle: Bundle, generator: DemoGenerator) -> None:
    found = json.loads((assets.DEMO / "brain_figures.json").read_text())
    assert found["digests"] == {"bundle": bundle.digest, "generator": generator.digest}


def test_betas_without_a_signal_give_one_picture_that_is_like_no_scene(
    bundle: Bundle, generator: DemoGenerator, silent: Trials
) -> None:
    figures, pictures = evaluate(bundle, generator, silent, train_judge(64, steps=2, batch=4))
    assert (pictures == pictures[0]).all()
    own, control = figures["through_the_brain"], figures["against_another_trials_scene"]
    assert own["pixel_correlation"] == pytest.approx(control["pixel_correlation"], abs=1e-6)
    assert own["pixel_correlation"] < 0.5
    assert figures["from_the_scenes_own_tokens"]["pixel_correlation"] > 0.95
    assert figures["token_error"] >= 0.9 * figures["token_error_of_the_mean"]
    assert sheet(silent, pictures).shape == (4 * 64, N // 2 * 64, 3)
