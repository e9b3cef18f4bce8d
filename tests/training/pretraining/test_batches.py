"""Parts of a batch: balanced over subjects, no image twice, and the same whenever and wherever they are made."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from mindsight.errors import BadRequest
from support.trials import material_of, small_config, small_data
from training.pretraining.batches import Batches, Part
from training.pretraining.data import make_material, make_split


@pytest.fixture(scope="module")
def batches() -> Batches:
    return material_of(small_config(), small_data(n_subjects=3)).batches


def test_a_part_has_as_many_trials_of_each_subject_and_no_image_twice(batches: Batches) -> None:
    for number in range(60):
        part = batches.part(number)
        assert [len(betas) for betas in part.betas] == [4, 4, 4]
        assert [betas.shape[1] for betas in part.betas] == [35, 40, 45]
        assert len(set(part.images)) == 12


def test_betas_and_tokens_are_of_the_image(batches: Batches) -> None:
    part, learner = batches.part(2), batches.learners[1]
    tokens = torch.from_numpy(batches.targets.tokens(part.images))
    assert torch.equal(part.tokens_BND, tokens)
    for beta_V, image in zip(part.betas[1], part.images[4:8], strict=True):
        own = [learner.rows_K[i] for i, name in enumerate(learner.images) if name == image]
        assert any(torch.equal(beta_V, torch.from_numpy(learner.betas.read(row.reshape(1))[0])) for row in own)


def test_a_part_follows_from_its_number(batches: Batches) -> None:
    def same(a: Part, b: Part) -> bool:
        return a.images == b.images and all(torch.equal(x, y) for x, y in zip(a.betas, b.betas, strict=True))

    late = batches.part(9)
    for number in (3, 9):
        assert same(batches.part(number), late) == (number == 9)


def test_an_epoch_shows_every_trial(batches: Batches) -> None:
    learner = batches.learners[0]
    seen: Counter[str] = Counter()
    n_parts = len(learner.images) // 4
    for number in range(n_parts):
        seen.update(batches.part(number).images[:4])
    # an image that another subject of the part saw gives way to the next one: a few come twice, or not yet
    assert len(seen) > 0.8 * len(set(learner.images))


def test_held_out_images_are_in_no_part(batches: Batches) -> None:
    config, data = small_config(), small_data(n_subjects=3)
    manifest = make_split(config, data)
    material = make_material(config, data, manifest)
    held = {name for name, row in manifest["images"].items() if row["part"] != "training"}
    assert held
    assert all(not held & set(material.batches.part(number).images) for number in range(80))
    for held_out in (*material.validation, *material.test):
        assert set(held_out.images) <= held
    assert not {i for h in material.validation for i in h.images} & {i for h in material.test for i in h.images}


def test_a_part_that_subjects_cannot_share_is_refused(batches: Batches) -> None:
    with pytest.raises(BadRequest, match="of each of the 3 subjects in a part, got a part of 10"):
        Batches(batches.learners, batches.targets, 10, 0)
    with pytest.raises(BadRequest, match="expected 300 different training images or more"):
        Batches(batches.learners, batches.targets, 300, 0)
