"""The linear decoder against the normal equations and against GCV written plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import ModelMismatch


def trials(k: int, v: int, d: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(k, d))
    return y @ rng.normal(size=(d, v)) + noise * rng.normal(size=(k, v)) + 3.0, y + 5.0


@pytest.mark.parametrize(("k", "v"), [(30, 200), (200, 30), (40, 40)])
def test_weights_solve_the_normal_equations(k: int, v: int) -> None:
    x, y = trials(k, v, 6)
    decoder = LinearDecoder.fit(x, y, penalty=2.5)
    xc, yc = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.solve(xc.T @ xc + 2.5 * np.eye(v), xc.T @ yc)
    np.testing.assert_allclose(decoder.weights_VD, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(decoder.predict(x), xc @ expected + y.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "v", "noise"), [(30, 200, 0.3), (200, 30, 4.0)])
def test_the_penalty_has_the_least_gcv_error_of_its_neighbourhood(k: int, v: int, noise: float) -> None:
    x, y = trials(k, v, 6, noise=noise)
    xc, yc = x - x.mean(0), y - y.mean(0)

    def gcv(penalty: float) -> float:
        hat = xc @ np.linalg.solve(xc.T @ xc + penalty * np.eye(v), xc.T) + 1.0 / k
        return float(((yc - hat @ yc) ** 2).sum() / np.trace(np.eye(k) - hat) ** 2)

    chosen = LinearDecoder.fit(x, y).penalty
    assert gcv(chosen) < gcv(chosen * 2)
    assert gcv(chosen) < gcv(chosen / 2)


def test_more_noise_asks_for_more_shrinkage() -> None:
    quiet, loud = (LinearDecoder.fit(*trials(200, 60, 4, noise)).penalty for noise in (0.5, 8.0))
    assert loud > 30 * quiet


def test_tokens_come_back_in_their_shape(tmp_path: Path) -> None:
    x, y = trials(30, 100, 12)
    decoder = LinearDecoder.fit(x, y.reshape(30, 3, 4))
    assert decoder.predict(x[:2]).shape == (2, 3, 4)
    decoder.save(tmp_path)
    loaded = LinearDecoder.load(tmp_path)
    assert (loaded.shape, loaded.penalty) == (decoder.shape, decoder.penalty)
    np.testing.assert_array_equal(loaded.predict(x), decoder.predict(x))


def test_wrong_input_is_refused() -> None:
    x, y = trials(30, 100, 2)
    with pytest.raises(ModelMismatch, match="100"):
        LinearDecoder.fit(x, y).predict(x[:, :99])
    with pytest.raises(ModelMismatch, match="constant"):
        LinearDecoder.fit(np.ones((5, 4)), np.eye(5))
    with pytest.raises(ModelMismatch, match="three"):
        LinearDecoder.fit(x[:2], y[:2])
