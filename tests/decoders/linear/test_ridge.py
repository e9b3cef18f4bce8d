"""Trials that arrive one after the other, against a fit to all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.ridge import RidgeTrials
from mindsight.errors import ModelMismatch


def trials(k: int, v: int, d: int, offset: float = 3.0, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k * v)
    y = rng.normal(size=(k, d))
    return y @ rng.normal(size=(d, v)) + noise * rng.normal(size=(k, v)) + offset, y + 5.0


def by_normal_equations(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    xc, yc = x - x.mean(0), y - y.mean(0)
    return np.asarray(np.linalg.solve(xc.T @ xc + penalty * np.eye(x.shape[1]), xc.T @ yc))


def gcv(x: np.ndarray, y: np.ndarray, penalty: float) -> float:
    xc, yc = x - x.mean(0), y - y.mean(0)
    hat = xc @ np.linalg.solve(xc.T @ xc + penalty * np.eye(x.shape[1]), xc.T) + 1.0 / len(x)
    return float(((yc - hat @ yc) ** 2).sum() / np.trace(np.eye(len(x)) - hat) ** 2)


@given(st.lists(st.integers(1, 17), min_size=1, max_size=12), st.sampled_from([5, 20, 200]))
@settings(max_examples=40, deadline=None)
def test_any_arrival_is_equal_to_a_refit(blocks: list[int], v: int) -> None:
    x, y = trials(sum(blocks) + 2, v, 4)
    stream, start = RidgeTrials(), 0
    for block in [2, *blocks]:
        stream.push(x[start : start + block], y[start : start + block])
        start += block
        if start >= 3:
            now = stream.solve(1.5)
            np.testing.assert_allclose(now.weights_VD, by_normal_equations(x[:start], y[:start], 1.5), atol=1e-9)
    whole = RidgeTrials()
    whole.push(x, y)
    streamed, refit = stream.solve(), whole.solve()
    assert streamed.penalty == pytest.approx(refit.penalty, rel=1e-6)
    np.testing.assert_allclose(streamed.weights_VD, refit.weights_VD, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(streamed.intercept_D, refit.intercept_D, rtol=1e-6)


@pytest.mark.parametrize("v", [12, 60])
def test_the_penalty_follows_gcv_at_any_time(v: int) -> None:
    x, y = trials(40, v, 3, noise=8.0)
    stream = RidgeTrials()
    for k in range(40):
        stream.push(x[k : k + 1], y[k : k + 1])
        if k in (9, 20, 39):
            penalty = stream.solve().penalty
            here = gcv(x[: k + 1], y[: k + 1], penalty)
            assert here < gcv(x[: k + 1], y[: k + 1], penalty * 1.5)
            assert here < gcv(x[: k + 1], y[: k + 1], penalty / 1.5)


def test_a_large_common_mean_costs_no_digits() -> None:
    x, y = trials(50, 80, 3, offset=0.0)
    near, far = RidgeTrials(), RidgeTrials()
    for k in range(50):
        near.push(x[k : k + 1], y[k : k + 1])
        far.push(x[k : k + 1] + 1e5, y[k : k + 1] - 1e5)
    np.testing.assert_allclose(far.solve(2.0).weights_VD, near.solve(2.0).weights_VD, rtol=1e-6, atol=1e-8)


def test_a_decoder_of_the_trials_so_far_is_the_fit_to_them() -> None:
    x, y = trials(30, 100, 12)
    stream = RidgeTrials()
    for start in range(0, 30, 7):
        stream.push(x[start : start + 7], y[start : start + 7].reshape(-1, 3, 4))
    streamed, fitted = LinearDecoder.of(stream), LinearDecoder.fit(x, y.reshape(-1, 3, 4))
    assert streamed.shape == (3, 4)
    assert streamed.penalty == pytest.approx(fitted.penalty, rel=1e-6)
    np.testing.assert_allclose(streamed.predict(x), fitted.predict(x), rtol=1e-6, atol=1e-6)


def test_asking_changes_nothing() -> None:
    x, y = trials(20, 10, 2)
    asked, silent = RidgeTrials(), RidgeTrials()
    for k in range(20):
        for stream in (asked, silent):
            stream.push(x[k : k + 1], y[k : k + 1])
        if k > 2:
            asked.solve()
    np.testing.assert_array_equal(asked.solve().weights_VD, silent.solve().weights_VD)


def test_what_does_not_fit_is_refused() -> None:
    x, y = trials(5, 8, 2)
    stream = RidgeTrials()
    stream.push(x[:2], y[:2])
    with pytest.raises(ModelMismatch, match="three"):
        stream.solve()
    for voxels, targets in ((x[:, :7], y), (x, y[:, :1]), (x, y[:4])):
        with pytest.raises(ModelMismatch, match="shapes"):
            stream.push(voxels, targets)
    stream.push(x[2:], y[2:])
    assert stream.n == 5
    np.testing.assert_allclose(stream.solve(1.0).weights_VD, by_normal_equations(x, y, 1.0), atol=1e-9)
