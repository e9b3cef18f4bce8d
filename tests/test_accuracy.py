"""Accuracy, chance and intervals, against published and counted values."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.accuracy import Accuracy, top_k, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_intervals(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_no_results_give_no_accuracy() -> None:
    assert Accuracy(0, 0, 0.1).value == 0.0
    assert Accuracy(0, 0, 0.1).interval == (0.0, 1.0)


def test_accuracies_add_up_with_their_chance() -> None:
    both = Accuracy(3, 4, 0.5) + Accuracy(1, 12, 0.25)
    assert both == Accuracy(4, 16, 0.3125)
    assert str(both) == "25.0% (4 of 16, 95 % interval 10.2% to 49.5%, chance 31.2%)"


def test_hits_are_counted() -> None:
    assert Accuracy.of([True, False, True], 0.1) == Accuracy(2, 3, 0.1)
    assert Accuracy.of([], 0.1) == Accuracy(0, 0, 0.1)


def test_top_k_counts_and_knows_its_chance() -> None:
    scores = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    right = np.eye(4, dtype=bool)[[1, 2]]
    assert top_k(scores, right, 1) == Accuracy(0, 2, 0.25)
    assert top_k(scores, right, 2) == Accuracy(2, 2, 0.5)
    several = np.array([[True, True, False, False], [False, True, True, False]])
    assert top_k(scores, several, 2).chance == pytest.approx(5 / 6)
