"""What every kind of encoder in the registry promises."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.encoders.base import Encoder
from mindsight.encoders.registry import KINDS, EncoderOptions, load_encoder
from mindsight.errors import BadRequest
from support.families import ENCODERS


@pytest.fixture(scope="module", params=sorted(KINDS))
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, EncoderOptions, Encoder]:
    options = ENCODERS[request.param](tmp_path_factory.mktemp("encoder"))
    return request.param, options, load_encoder(request.param, options)


@pytest.fixture(scope="module")
def images(loaded: tuple[str, EncoderOptions, Encoder]) -> np.ndarray:
    size = loaded[2].image_size
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)


def test_every_kind_has_an_example() -> None:
    assert set(ENCODERS) == set(KINDS)


def test_features_are_those_of_the_space(loaded: tuple[str, EncoderOptions, Encoder], images: np.ndarray) -> None:
    _, _, encoder = loaded
    features = encoder.encode(images)
    assert features.shape == (3, *encoder.space.shape)
    assert features.dtype == np.float32
    assert (features[0] != features[1]).any()


def test_the_space_names_the_weights(loaded: tuple[str, EncoderOptions, Encoder]) -> None:
    kind, options, encoder = loaded
    assert encoder.space.name
    assert len(encoder.space.encoder) == 64
    assert encoder.space.encoder in encoder.source
    assert load_encoder(kind, options).space == encoder.space


def test_floats_and_bytes_are_the_same_images(loaded: tuple[str, EncoderOptions, Encoder], images: np.ndarray) -> None:
    _, _, encoder = loaded
    floats = images.astype(np.float32) / 255
    np.testing.assert_allclose(encoder.encode(floats), encoder.encode(images), rtol=1e-4, atol=1e-5)


def test_an_image_encodes_as_it_does_among_others(
    loaded: tuple[str, EncoderOptions, Encoder], images: np.ndarray
) -> None:
    _, _, encoder = loaded
    np.testing.assert_allclose(encoder.encode(images[1:2])[0], encoder.encode(images)[1], rtol=1e-4, atol=1e-5)


def test_a_kind_that_is_not_known_here_is_refused() -> None:
    with pytest.raises(BadRequest, match="demo, openclip"):
        load_encoder("clip-l", EncoderOptions())
    with pytest.raises(BadRequest, match="--weights"):
        load_encoder("openclip", EncoderOptions())
