"""Errors of decoded features are learnt from trials, at each stage, and read back as they were saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import ModelMismatch
from mindsight.posterior.errors import ERRORS, DecodingErrors
from mindsight.weights.tensors import write_tensors
from support.decoded import Decoded, simulate


@pytest.fixture(scope="module")
def world() -> Decoded:
    return simulate(seed=1)


@pytest.fixture(scope="module")
def learnt(world: Decoded) -> DecodingErrors:
    return world.learn()


def test_expected_features_are_those_of_the_image_and_errors_those_of_the_stage(
    world: Decoded, learnt: DecodingErrors
) -> None:
    """Left-out errors are those of the features, plus those of the fitted map: at most a few percent here."""
    new = world.images(200)
    expected, exact = learnt.expected(new), learnt.place(world.mean(new))
    assert np.square(expected - exact).mean() < 0.05 * np.square(exact).mean()
    for stage, noise in world.noise.items():
        errors = learnt.stages[stage].of_image
        variance = errors.scatter_PP.diagonal() / errors.n
        tolerance = 4.0 * np.sqrt(2.0 / errors.n)  # four standard errors of a variance
        assert (variance > noise**2 * (1.0 - tolerance)).all()
        assert (variance < noise**2 * (1.1 + tolerance)).all()
        assert np.trace(learnt.stages[stage].of_any.scatter_PP) > 5.0 * np.trace(errors.scatter_PP)


def test_directions_are_as_many_as_the_images_allow(world: Decoded, learnt: DecodingErrors) -> None:
    assert learnt.basis_XP.shape == (world.n_decoded, world.width)  # features vary in no more
    few = world.learn(n_images=20)
    assert few.basis_XP.shape[1] == 20 // 4
    np.testing.assert_allclose(few.basis_XP.T @ few.basis_XP, np.eye(5), atol=1e-4)


def test_it_is_read_back_in_half_precision(learnt: DecodingErrors, world: Decoded, tmp_path: Path) -> None:
    assert DecodingErrors.load(tmp_path) is None
    learnt.save(tmp_path)
    loaded = DecodingErrors.load(tmp_path)
    assert loaded is not None
    assert list(loaded.stages) == sorted(learnt.stages)
    new = world.images(30)
    half = 2.0**-11 * np.abs(new - learnt.tokens_D).sum(axis=1, keepdims=True) * np.abs(learnt.weights_DP).max()
    assert (np.abs(loaded.expected(new) - learnt.expected(new)) <= half + 1e-5).all()
    for stage, errors in learnt.stages.items():
        np.testing.assert_array_equal(loaded.stages[stage].of_image.scatter_PP, errors.of_image.scatter_PP)
        assert loaded.stages[stage].of_any.n == errors.of_any.n
    write_tensors(tmp_path / ERRORS, {"basis": np.zeros((2, 2))})
    with pytest.raises(ModelMismatch, match=r"no \['decoded', 'tokens', 'weights'\]") as error:
        DecodingErrors.load(tmp_path)
    assert error.value.code == "model.file"


def test_too_few_trials_are_refused(world: Decoded) -> None:
    with pytest.raises(ModelMismatch) as error:
        world.learn(n_images=3)
    assert error.value.code == "calibration.few"
