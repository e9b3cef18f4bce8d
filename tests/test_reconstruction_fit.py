"""The fit of a reconstruction: a cosine of tokens, and its rank among those of reconstructions that do not belong."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight import assets
from mindsight.encoders.base import Encoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_encoder_of, load_generator
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.quantiles import quantiles_of
from mindsight.reconstruction_fit import FitMeter, directions, token_cosine
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.subjects.bundle.fit import FitCalibration, MismatchedFit

rng = np.random.default_rng(0)
A, B, ORIGIN = (rng.normal(size=(1, 4, 6)).astype(np.float32) for _ in range(3))


@pytest.fixture(scope="module")
def generator() -> DemoGenerator:
    return DemoGenerator.load(assets.GENERATOR)


@pytest.fixture(scope="module")
def meter(generator: DemoGenerator) -> FitMeter:
    return FitMeter(load_encoder_of(assets.GENERATOR), generator)


def test_all_tokens_of_a_trial_are_one_vector() -> None:
    wide_A, wide_B = A.astype(np.float64).ravel(), B.astype(np.float64).ravel()
    expected = wide_A @ wide_B / np.linalg.norm(wide_A) / np.linalg.norm(wide_B)
    assert token_cosine(A, B) == pytest.approx(expected, abs=1e-6)
    assert token_cosine(A, 3.0 * A) == pytest.approx(1.0, abs=1e-6)
    assert token_cosine(A, -A) == pytest.approx(-1.0, abs=1e-6)


def test_an_origin_is_subtracted_from_both_sides() -> None:
    assert token_cosine(A + ORIGIN, B + ORIGIN, ORIGIN[0]) == pytest.approx(token_cosine(A, B), abs=1e-5)


def test_tokens_without_length_fit_nothing() -> None:
    assert token_cosine(A, np.zeros_like(A)) == 0.0
    assert token_cosine(A, ORIGIN, ORIGIN[0]) == 0.0
    assert not directions(np.concatenate([A, ORIGIN]), ORIGIN)[1].any()


CALIBRATION = FitCalibration(
    encoder="e" * 64,
    generator="g" * 64,
    stages={"fast": MismatchedFit(quantiles=quantiles_of(np.linspace(0.0, 1.0, 1001)), n=99)},
)


def test_a_percentile_is_never_certain() -> None:
    assert CALIBRATION.percentile(0.5, "fast") == pytest.approx(50.0 * 0.99, abs=0.1)
    assert CALIBRATION.percentile(2.0, "fast") == pytest.approx(99.0)
    assert CALIBRATION.percentile(-1.0, "fast") == 0.0


def test_a_stage_that_was_not_calibrated_has_no_percentile() -> None:
    assert CALIBRATION.percentile(0.5, "final") is None


def test_a_calibration_with_other_weights_does_not_count(meter: FitMeter) -> None:
    own = FitCalibration(encoder=meter.encoder_digest, generator=meter.generator_digest, stages=CALIBRATION.stages)
    assert meter.percentile(0.5, "fast", own) == CALIBRATION.percentile(0.5, "fast")
    assert meter.percentile(0.5, "fast", CALIBRATION) is None
    assert meter.percentile(0.5, "fast", None) is None


def test_a_reconstruction_fits_its_own_tokens_and_no_others(generator: DemoGenerator, meter: FitMeter) -> None:
    """The generator draws clean tokens almost as they are."""
    scenes = render_batch(random_scenes(np.random.default_rng(5), 6), generator.image_size)
    [name] = generator.spaces
    tokens_BND = DemoEncoder.load(assets.ENCODER).encode(scenes)
    made = [generator({name: tokens_BND[k : k + 1]}, k, SampleOptions())[0] for k in range(6)]
    encoded_BND = np.concatenate([meter.encoded(image) for image in made])
    cosines = directions(encoded_BND) @ directions(tokens_BND).T
    assert np.diag(cosines).min() > 0.9
    assert cosines[~np.eye(6, dtype=bool)].max() < 0.7


def test_reconstructions_are_resized_for_the_encoder(generator: DemoGenerator, meter: FitMeter) -> None:
    scene = render_batch(random_scenes(np.random.default_rng(6), 1), generator.image_size)[0]
    larger = scene.repeat(3, axis=0).repeat(3, axis=1)
    assert token_cosine(meter.encoded(larger), meter.encoded(scene)) > 0.95


def test_an_encoder_of_other_weights_is_refused(generator: DemoGenerator) -> None:
    other: Encoder = DemoEncoder(DemoEncoder.load(assets.ENCODER).config)
    other.digest = "0" * 64  # type: ignore[attr-defined]
    with pytest.raises(ModelMismatch) as error:
        FitMeter(other, generator)
    assert error.value.code == "features.space"


def test_the_generator_that_ships_has_its_encoder_beside_it() -> None:
    [space] = load_generator(assets.GENERATOR).spaces.values()
    assert load_encoder_of(assets.GENERATOR).space == space
