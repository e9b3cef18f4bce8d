"""What every kind of generator in the registry promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import Features
from mindsight.generators.base import Generator, SampleOptions
from mindsight.generators.registry import KINDS, load_generator
from mindsight.weights.device import Placement
from support.families import GENERATORS
from support.meta_card import MetaCard

OPTIONS = SampleOptions(steps=2)


@pytest.fixture(scope="module", params=sorted(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "weights"
    GENERATORS[request.param](folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return load_generator(folder)


@pytest.fixture(scope="module")
def features(generator: Generator) -> Features:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(3, *space.shape)).astype(np.float32) for name, space in generator.spaces.items()}


def test_every_kind_has_an_example() -> None:
    assert set(GENERATORS) == set(KINDS)


def test_images_have_the_size_that_it_states(generator: Generator, features: Features) -> None:
    images = generator(features, 0, OPTIONS)
    assert images.shape == (3, generator.image_size, generator.image_size, 3)
    assert images.dtype == np.uint8
    assert (images[0] != images[1]).any()


def test_it_names_its_weights_and_the_encoder_that_it_was_trained_with(generator: Generator) -> None:
    assert len(generator.digest) == 64
    for name, space in generator.spaces.items():
        assert space.name == name
        assert len(space.encoder) == 64


def test_the_seed_decides_the_bytes(generator: Generator, features: Features) -> None:
    first, again, other = (generator(features, seed, OPTIONS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_image_does_not_depend_on_those_made_with_it(generator: Generator, features: Features) -> None:
    alone = generator({name: of[1:2] for name, of in features.items()}, 1, OPTIONS)[0].astype(int)
    assert np.abs(alone - generator(features, 1, OPTIONS)[1]).max() <= 1


def test_a_preview_comes_before_the_image(generator: Generator, features: Features) -> None:
    few = SampleOptions(steps=4)
    preview, full = generator.versions(features, 1, few)
    assert (preview.is_preview, full.is_preview) == (True, False)
    assert 0 < preview.evaluations < full.evaluations == generator.evaluations(few)
    assert preview.images.shape == full.images.shape
    assert (preview.images != full.images).any()
    np.testing.assert_array_equal(full.images, generator(features, 1, few))
    [only] = generator.versions(features, 1, SampleOptions(steps=1))
    assert not only.is_preview


def test_less_memory_makes_no_other_image(generator: Generator, features: Features) -> None:
    whole, spared = (list(generator.versions(features, 1, OPTIONS, sparing=sparing)) for sparing in (False, True))
    for one, other in zip(whole, spared, strict=True):
        assert np.abs(one.images.astype(int) - other.images).max() <= 1
        assert one.evaluations == other.evaluations


def test_options_change_the_image(generator: Generator, features: Features) -> None:
    assert (generator(features, 1, OPTIONS) != generator(features, 1, SampleOptions(steps=4))).any()


def test_an_image_is_made_where_the_weights_are(folder: Path, features: Features) -> None:
    """From features of the host or of the card; the image is all that comes back, and meta has none to give."""
    placement = Placement("meta", "float16")
    generator = load_generator(folder, placement)
    for given in (features, {name: placement.tensor(feature) for name, feature in features.items()}):
        with MetaCard() as card, pytest.raises(NotImplementedError):
            generator(given, 0, OPTIONS)
        assert card.strays == []
        assert torch.float16 in card.dtypes()


def test_it_counts_its_evaluations(generator: Generator) -> None:
    usual, few = (generator.evaluations(options) for options in (SampleOptions(), OPTIONS))
    assert usual > few >= 2


def test_features_of_another_shape_are_refused(generator: Generator) -> None:
    wrong = {name: np.zeros((1, space.shape[0] + 1, *space.shape[1:])) for name, space in generator.spaces.items()}
    with pytest.raises(BadRequest) as error:
        generator(wrong, 0, OPTIONS)
    assert error.value.code == "generator.features"


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch):
        load_generator(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "kind": "encoder", "sha256": {}}))
    with pytest.raises(ModelMismatch) as error:
        load_generator(tmp_path)
    assert error.value.code == "generator.kind"
