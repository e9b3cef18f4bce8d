"""Spaces are the same by all that is recorded of them, never by their shape alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mindsight.errors import ModelMismatch
from mindsight.features import FeatureSpace, match

HIDDEN = FeatureSpace("clip-l-vision-hidden", (257, 768), "divided by the norm of token 0", "a" * 64)
TEXT = FeatureSpace("clip-l-text-hidden", (77, 768), "divided by the pooled norm", "a" * 64)


def test_a_space_survives_json() -> None:
    assert FeatureSpace.from_json(HIDDEN.to_json()) == HIDDEN
    for spoilt in ({}, HIDDEN.to_json() | {"name": 3}, HIDDEN.to_json() | {"shape": "wide"}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            FeatureSpace.from_json(spoilt)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (HIDDEN, True),
        (replace(HIDDEN, encoder="b" * 64), False),
        (replace(HIDDEN, normalisation="none"), False),
        (replace(HIDDEN, name="clip-l-text-sd"), False),
        (replace(HIDDEN, shape=(257, 1024)), False),
        (FeatureSpace("", (257, 768)), True),  # of a pool made before spaces were recorded
        (FeatureSpace("", (77, 768)), False),
    ],
)
def test_spaces_match_by_everything_that_both_record(other: FeatureSpace, same: bool) -> None:
    assert HIDDEN.matches(other) == other.matches(HIDDEN) == same


def test_a_generator_finds_its_features_by_their_space() -> None:
    given = {"vision": HIDDEN, "text": TEXT}
    found = match(given, {"clip-l-text-hidden": TEXT, "clip-l-vision-hidden": HIDDEN})
    assert found == {"clip-l-text-hidden": "text", "clip-l-vision-hidden": "vision"}
    with pytest.raises(ModelMismatch, match="same encoder") as error:
        match(given, {"clip-l-text-hidden": replace(TEXT, encoder="b" * 64)})
    assert error.value.code == "features.space"
