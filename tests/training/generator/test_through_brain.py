"""Figures of pictures through the brain: those that ship are of what ships, and a beta without a signal gives none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mindsight import assets
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.ingest.outputs import TrialBeta
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.subjects.bundle.folder import Bundle
from training.generator.judge import own_accuracy, train_judge
from training.generator.through_brain import Trials, evaluate, final_trials, made_with, sheet, visits

N = 6
FLOORS = {"pixel_correlation": 0.90, "both_backgrounds_right": 0.90, "shape_kind_right": 0.80}


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
    assert found["made_with"] == made_with(bundle, generator)


def test_the_figures_that_ship_are_good_enough_and_nothing_is_lost_where_the_ranking_cannot_help() -> None:
    found = json.loads((assets.DEMO / "brain_figures.json").read_text())
    require_floors(found["scenes_of_the_pool"], found["scenes_in_no_pool"])


def require_floors(pool: dict[str, Any], new: dict[str, Any]) -> None:
    """Ranked scenes as they are asked for; new ones no worse than by the decoder alone, within a standard error."""
    guided = {name: pool["guided_by_the_ranking"][name]["value"] for name in FLOORS}
    assert all(guided[name] >= floor for name, floor in FLOORS.items()), guided
    wrong = pool["guided_by_the_ranking"]["against_another_trials_scene"]
    assert wrong["pixel_correlation"]["value"] < 0.3
    assert wrong["both_backgrounds_right"]["value"] < 0.1
    for name in FLOORS:
        alone, both = new["by_the_decoder_alone"][name], new["guided_by_the_ranking"][name]
        low, high = alone["interval"]
        assert both["value"] >= alone["value"] - (high - low) / 4, name
    assert pool["guided_by_the_ranking"]["from_ranking"]["value"] > 0.9
    assert new["guided_by_the_ranking"]["from_ranking"]["value"] < 0.05


@pytest.mark.figures
def test_two_runs_of_both_visits_reach_the_floors(bundle: Bundle, generator: DemoGenerator) -> None:
    encoder, judge = DemoEncoder.load(assets.ENCODER), train_judge(64)
    assert min(own_accuracy(judge).values()) > 0.97
    found = [
        evaluate(bundle, generator, final_trials(visit, bundle, n_runs=2), judge)[0]
        for visit in visits(encoder).values()
    ]
    require_floors(*found)


@pytest.mark.slow
def test_betas_without_a_signal_give_one_picture_that_is_like_no_scene(
    bundle: Bundle, generator: DemoGenerator, silent: Trials
) -> None:
    figures, pictures = evaluate(bundle, generator, silent, train_judge(64, steps=2, batch=4))
    for name, images in pictures.items():
        assert (images == images[0]).all()
        own = figures[name]["pixel_correlation"]["value"]
        assert own == pytest.approx(
            figures[name]["against_another_trials_scene"]["pixel_correlation"]["value"], abs=1e-6
        )
        assert own < 0.5
        assert figures[name]["token_error"] >= 0.9 * figures["token_error_of_the_mean"]
    assert figures["guided_by_the_ranking"]["from_ranking"]["value"] < 0.05
    assert figures["by_the_decoder_alone"]["from_ranking"]["value"] == 0.0
    assert figures["from_the_scenes_own_tokens"]["pixel_correlation"]["value"] > 0.95
    assert sheet(silent, list(pictures.values())).shape == (6 * 64, N // 2 * 64, 3)
