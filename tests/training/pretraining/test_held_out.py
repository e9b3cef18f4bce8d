"""Retrieval both ways, which are not the same, and repeats that are averaged behind the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mindsight.decoders.mindeye2 import fold, load_mindeye2
from support.trials import material_of, small_config, small_data
from training.pretraining.command import make_model
from training.pretraining.held_out import HeldOut, measure, retrieval_of


def test_the_two_directions_are_named_by_what_is_searched() -> None:
    """Rows are brains: the published code has its two columns the other way round."""
    scores = np.array([[2.0, 1.0, 0.0], [5.0, 6.0, 0.0], [0.0, 0.0, 1.0]])
    found = retrieval_of(scores)
    assert (found.images.hits, found.images.n, found.images.chance) == (3, 3, pytest.approx(1 / 3))
    assert (found.brains.hits, found.brains.n) == (2, 3)  # the first image is closest to the second brain
    assert found.control.hits == 0
    both = found + found
    assert (both.images.hits, both.images.n, both.images.chance) == (6, 6, pytest.approx(1 / 3))


def test_repeats_are_averaged_behind_the_networks_and_the_model_goes_on_training() -> None:
    data, config = small_data(trials=200, images=190), small_config(split={"validation": 0.3, "test": 0.1})
    material = material_of(config, data)
    model = make_model(config, data).train()
    measured = measure(model, material.validation, data.targets, "cpu", torch.float32)
    assert model.training
    folded = fold(load_mindeye2(model.state_dict()))  # as a session decodes, of the first subject
    held_out = material.validation[0]
    assert max(len(rows) for rows in held_out.rows) == 2
    tokens = [
        folded.tokens(torch.from_numpy(held_out.betas.read(rows))).retrieval.flatten(1).mean(0)
        for rows in held_out.rows
    ]
    sought = torch.from_numpy(data.targets.tokens(held_out.images)).flatten(1)
    scores = F.normalize(torch.stack(tokens)) @ F.normalize(sought).T
    expected = retrieval_of(scores.numpy())
    assert measured["s1"] == expected


def test_at_most_as_many_images_as_the_published_pool() -> None:
    data = small_data(1, trials=700, images=800)
    betas = material_of(small_config(), data).batches.learners[0].betas
    held_out = HeldOut.of("s1", betas, set(data.dataset.images))
    assert len(held_out.images) == 300
    assert held_out.images == HeldOut.of("s1", betas, set(data.dataset.images)).images
