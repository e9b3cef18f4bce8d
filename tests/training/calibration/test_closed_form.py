"""The growing trials against ridge regression written out, and folds that keep an image's trials together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.decoders.linear.inversion import invert_encoding
from mindsight.errors import ModelMismatch
from training.calibration.closed_form import GrowingTrials, folds_by_image, folds_by_run

K, V, H = 60, 130, 12


@pytest.fixture(scope="module")
def data() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(K, V)) + 3.0
    return z.astype(np.float32), (z @ rng.normal(size=(V, H)) / 10 + rng.normal(size=(K, H)) + 5.0).astype(np.float32)


@pytest.fixture(scope="module")
def trials(data: tuple[NDArray[np.float32], NDArray[np.float32]]) -> GrowingTrials:
    """In parts of seven."""
    grown = GrowingTrials(V, H)
    for k in range(0, K, 7):
        grown.push(data[0][k : k + 7], data[1][k : k + 7])
    return grown


def ridge(z: NDArray[np.float32], target: NDArray[np.float32], penalty: float) -> tuple[NDArray[np.float64], ...]:
    z64, t64 = z.astype(np.float64), target.astype(np.float64)
    zc, tc = z64 - z64.mean(0), t64 - t64.mean(0)
    weights = np.linalg.solve(zc.T @ zc + penalty * np.eye(z.shape[1]), zc.T @ tc)
    return weights, t64.mean(0) - z64.mean(0) @ weights


def test_the_fit_is_ridge_regression(
    trials: GrowingTrials, data: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    weights, intercept = ridge(*data, 40.0)
    readout = trials.fit("ridge", 40.0)
    np.testing.assert_allclose(readout.weights_VH, weights, atol=2e-5)
    np.testing.assert_allclose(readout.predict(data[0]), data[0] @ weights + intercept, atol=1e-3)


def test_cross_fit_predicts_each_trial_without_its_fold_at_the_penalty_of_least_error(
    trials: GrowingTrials, data: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    z, target = data
    fold_K = folds_by_image(np.arange(K) % 50, 5)
    found = trials.cross_fit("ridge", fold_K)

    def left_out(penalty: float) -> NDArray[np.float64]:
        predicted = np.empty((K, H))
        for fold in range(5):
            weights, intercept = ridge(z[fold_K != fold], target[fold_K != fold], penalty)
            predicted[fold_K == fold] = z[fold_K == fold] @ weights + intercept
        return predicted

    np.testing.assert_allclose(found.predicted_KH, left_out(found.penalty), atol=1e-3)
    errors = [((left_out(found.penalty * factor) - target) ** 2).sum() for factor in (0.3, 1.0, 3.0)]
    assert errors[1] == min(errors)


def test_the_inverted_encoding_model_is_that_of_the_decoder_room(
    trials: GrowingTrials, data: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    weights, intercept = invert_encoding(*data)
    readout = trials.fit("inversion", 0.85)
    np.testing.assert_allclose(readout.weights_VH, weights, atol=1e-3 * np.abs(weights).max())
    np.testing.assert_allclose(readout.intercept_H, intercept, atol=1e-2)


def test_other_widths_are_refused(trials: GrowingTrials) -> None:
    with pytest.raises(ModelMismatch, match="expected betas"):
        trials.push(np.zeros((1, V + 1), np.float32), np.zeros((1, H), np.float32))


def test_an_image_is_in_one_fold_and_folds_are_blocks() -> None:
    image_K = np.array([4, 7, 4, 1, 9, 1, 2, 3, 2, 5])
    fold_K = folds_by_image(image_K, 3)
    assert all(len(set(fold_K[image_K == image])) == 1 for image in image_K)
    assert set(fold_K) == {0, 1, 2}
    assert fold_K[0] == 0
    assert fold_K[-1] == 2
    assert folds_by_run(np.array([1, 1, 2, 2, 4]), 5).tolist() == [0, 0, 1, 1, 2]
    assert set(folds_by_run(np.ones(10, np.intp), 5)) == set(range(5))
