"""Scenes: seeded, bounded, drawn as they are described."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.simulator.scenes import KINDS, PALETTE, Scene, Shape, random_scenes, render, render_batch


def test_the_seed_decides_the_scenes() -> None:
    first, again, other = (random_scenes(np.random.default_rng(seed), 20) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_random_scenes_keep_their_promises() -> None:
    for scene in random_scenes(np.random.default_rng(0), 500):
        colours = [scene.sky, scene.ground, *(shape.colour for shape in scene.shapes)]
        assert len(set(colours)) == len(colours)
        for shape in scene.shapes:
            assert shape.size < min(shape.x, shape.y, 1 - shape.x, 1 - shape.y)
        if len(scene.shapes) == 2:
            left, right = scene.shapes
            assert np.hypot(left.x - right.x, left.y - right.y) > left.size + right.size - 1e-3


def test_a_batch_is_its_scenes_one_by_one() -> None:
    scenes = random_scenes(np.random.default_rng(1), 24)
    np.testing.assert_array_equal(render_batch(scenes, 64), np.stack([render(scene, 64) for scene in scenes]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ring"])
def test_a_shape_has_its_colour_in_its_middle_and_the_background_around(kind: str) -> None:
    scene = Scene("blue", "green", 0.6, (Shape(kind, "red", 0.5, 0.5, 0.25),))
    picture = render(scene, 96)
    assert tuple(picture[48, 48]) == PALETTE["red"]
    np.testing.assert_allclose(picture[0, 0], PALETTE["blue"], atol=2)
    np.testing.assert_allclose(picture[-1, 0], np.multiply(PALETTE["green"], 0.65), atol=2)
    red = (picture == PALETTE["red"]).all(-1)
    assert red[:, :23].sum() == red[:, 73:].sum() == red[:23].sum() == red[73:].sum() == 0


def test_a_ring_shows_the_background_through_its_middle() -> None:
    picture = render(Scene("blue", "green", 0.75, (Shape("ring", "red", 0.5, 0.5, 0.25),)), 96)
    assert (picture == PALETTE["red"]).all(-1).any()
    assert not (picture[40:56, 40:56] == PALETTE["red"]).all(-1).any()


def test_edges_are_antialiased_so_that_a_small_image_is_the_large_one_averaged() -> None:
    scenes = random_scenes(np.random.default_rng(2), 16)
    large = render_batch(scenes, 256).astype(np.float64).reshape(16, 64, 4, 64, 4, 3).mean((2, 4))
    assert np.sqrt(np.square(large - render_batch(scenes, 64)).mean()) < 4.0  # of 255


def test_a_scene_describes_what_it_shows() -> None:
    shapes = (Shape("triangle", "red", 0.3, 0.3, 0.2), Shape("circle", "yellow", 0.7, 0.7, 0.2))
    assert Scene("blue", "green", 0.5, shapes).describe() == "red triangle, yellow circle on blue over green"
