"""The mathematics of combining echoes, against formulas written out and a simulated run."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.errors import BadRequest, BadVolume
from mindsight.scanner.echoes import (
    MAX_T2_STAR_MS,
    MIN_T2_STAR_MS,
    Combination,
    Echo,
    choose,
    parse_echo,
    stride_of,
    t2_star_ms,
    weights,
)
from mindsight.volume import Volume

TIMES_MS = (12.0, 28.0, 44.0)


def volume(data: np.ndarray, index: int = 0) -> Volume:
    return Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), 1.5, 1, index)


def decayed(t2_XYZ: np.ndarray, s0: float = 1000.0) -> list[np.ndarray]:
    return [s0 * np.exp(-time / t2_XYZ) for time in TIMES_MS]


def test_t2_star_of_a_decay_is_found_and_kept_within_what_tissue_has() -> None:
    t2_XYZ = np.linspace(10.0, 120.0, 24).reshape(2, 3, 4)
    np.testing.assert_allclose(t2_star_ms(decayed(t2_XYZ), TIMES_MS), t2_XYZ, rtol=1e-9)
    growing = [np.full((1, 1, 1), value) for value in (100, 110, 120)]
    assert t2_star_ms(growing, TIMES_MS) == MAX_T2_STAR_MS
    gone = [np.full((1, 1, 1), value) for value in (1e6, 1.0, 1e-6)]
    assert t2_star_ms(gone, TIMES_MS) == MIN_T2_STAR_MS
    for nothing in (0, -3, np.nan):
        found = t2_star_ms([np.full((1, 1, 1), value) for value in (100.0, nothing, 50.0)], TIMES_MS)
        assert MIN_T2_STAR_MS < found < MAX_T2_STAR_MS


def test_weights_are_those_of_the_formula() -> None:
    t2_XYZ = np.linspace(15.0, 90.0, 6).reshape(1, 2, 3)
    found = weights(decayed(t2_XYZ), TIMES_MS)
    raw = np.array([[time * np.exp(-time / t2) for time in TIMES_MS] for t2 in t2_XYZ.ravel()])
    expected = raw / raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack([one.ravel() for one in found], axis=1), expected, rtol=1e-6)


def test_the_first_volume_has_the_weights_for_the_run() -> None:
    """What scales all echoes alike changes none of them; a later volume's own T2* does not count."""
    first, later = decayed(np.full((2, 2, 2), 30.0)), decayed(np.full((2, 2, 2), 80.0))
    combination = Combination(TIMES_MS)
    combination.volume([volume(one) for one in first])
    got = combination.volume([volume(one, 1) for one in later])
    share = np.array([time * np.exp(-time / 30.0) for time in TIMES_MS])
    share /= share.sum()
    np.testing.assert_allclose(got.data[0, 0, 0], share @ np.array([one[0, 0, 0] for one in later]), rtol=1e-6)
    scaled = Combination(TIMES_MS)
    scaled.volume([volume(3.0 * one) for one in first])
    np.testing.assert_allclose(scaled.volume([volume(one, 1) for one in later]).data, got.data, rtol=1e-6)
    with pytest.raises(BadVolume, match="one shape"):
        combination.volume([volume(np.ones((2, 2, 3))) for _ in TIMES_MS])


def test_a_combined_run_is_steadier_than_its_best_echo() -> None:
    """BOLD changes T2*, noise is alike in every echo: contrast to noise and tSNR both gain over each single echo."""
    rng = np.random.default_rng(0)
    shape, n, t2_ms = (8, 8, 6), 200, 45.0
    activity_T = (np.arange(n) // 20) % 2
    combination = Combination(TIMES_MS)
    single, combined = [], []
    for k in range(n):
        t2_XYZ = np.full(shape, t2_ms * (1.0 + 0.01 * activity_T[k]))
        echoes = [signal + rng.normal(0.0, 10.0, shape) for signal in decayed(t2_XYZ)]
        single.append(echoes)
        combined.append(combination.volume([volume(one, k) for one in echoes]).data)
    single_TE, combined_T = np.array(single), np.array(combined)

    def tsnr(series_T: np.ndarray) -> float:
        rest = series_T[activity_T == 0]
        return float(np.median(rest.mean(axis=0) / rest.std(axis=0)))

    def contrast(series_T: np.ndarray) -> float:
        rest, active = series_T[activity_T == 0], series_T[activity_T == 1]
        return float(np.median((active.mean(axis=0) - rest.mean(axis=0)) / rest.std(axis=0)))

    middle = single_TE[:, 1]  # the echo near T2* that a single-echo run would have
    assert tsnr(combined_T) > 1.2 * tsnr(middle)
    assert contrast(combined_T) > 1.2 * max(contrast(single_TE[:, e]) for e in range(3))


def test_the_lowest_number_else_the_shortest_time_is_the_first() -> None:
    assert choose([Echo(2, 10.0), Echo(1, 30.0)], None) == Echo(1, 30.0)
    assert choose([Echo(1, 30.0), Echo(1, 10.0)], None) == Echo(1, 10.0)
    assert choose([Echo(None, 30.0), Echo(None, 10.0)], 2) == Echo(None, 30.0)
    assert choose([Echo(2, 30.0)], 2) == Echo(2, 30.0)
    with pytest.raises(BadVolume):
        choose([Echo(None, 30.0)], 2)


def test_one_echo_whose_time_wavers_is_one() -> None:
    assert Echo(1, 29.99).is_same(Echo(1, 30.0))
    assert not Echo(1, 12.0).is_same(Echo(1, 14.0))
    assert not Echo(1, 12.0).is_same(Echo(2, 12.0))
    assert Echo(1, None).is_same(Echo(None, 12.0))


@pytest.mark.parametrize(
    ("numbers", "stride"),
    [
        ([{1, 3, 5}, {2, 4, 6}], 2),
        ([{1, 2, 3}, {4, 5, 6}], 1),
        ([{1, 2, 3}, {1, 2, 3}], 1),
        ([{1, 4}, {2}, {3}], 3),
        ([{1, 2, 3}], 1),
        ([set(), {1, 2}], 1),
    ],
)
def test_how_one_count_runs_through_the_echoes(numbers: list[set[int]], stride: int) -> None:
    assert stride_of(numbers) == stride


def test_the_choice_is_a_number_or_combine() -> None:
    assert [parse_echo(text) for text in ("", "1", "12", "combine")] == [None, 1, 12, "combine"]
    for text in ("0", "33", "two", "-1", "1.5"):
        with pytest.raises(BadRequest):
            parse_echo(text)
