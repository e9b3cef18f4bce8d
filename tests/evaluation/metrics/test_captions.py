"""ROUGE against its definition, counted another way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.captions import rouge_1, rouge_l


def test_worked_examples() -> None:
    """Of Lin 2004, section 3.2."""
    reference = [["police killed the gunman"]] * 2
    captions = ["police kill the gunman", "the gunman kill police"]
    np.testing.assert_allclose(rouge_l(reference, captions).values_K, [3 / 4, 2 / 4])
    np.testing.assert_allclose(rouge_1(reference, captions).values_K, [3 / 4, 3 / 4])


def test_words_are_letters_and_digits_of_any_case_and_the_best_reference_counts() -> None:
    references = [["Two dogs, on a beach.", "A cat"], ["nothing of the kind"], ["a"]]
    captions = ["two DOGS on a beach", "A, man", ""]
    for rouge in (rouge_1, rouge_l):
        np.testing.assert_allclose(rouge(references, captions).values_K, [1.0, 0.0, 0.0])
    assert rouge_1([["a man a plan"]], ["a a a"]).value == pytest.approx(
        2 * 2 / 7
    )  # no word more often than both have it


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_the_longest_common_sequence_is_found(a: list[str], b: list[str]) -> None:
    def pieces(words: list[str]) -> set[tuple[str, ...]]:
        return {p for n in range(len(words) + 1) for p in itertools.combinations(words, n)}

    longest = max(map(len, pieces(a) & pieces(b)))
    precision, recall = longest / len(b), longest / len(a)
    expected = 2 * precision * recall / (precision + recall) if longest else 0.0
    assert rouge_l([[" ".join(a)]], [" ".join(b)]).value == pytest.approx(expected)


@pytest.mark.parametrize("references", [[["a"]], [["a"], []]])
def test_images_without_a_caption_are_refused(references: list[list[str]]) -> None:
    with pytest.raises(BadRequest, match="of each of 2 images"):
        rouge_1(references, ["a", "b"])
